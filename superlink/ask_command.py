"""What `superlink ask` does: read pictures, ask once for all of a batch, print and save."""

from __future__ import annotations

import gc
import json as json_format
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superlink.agents.embedded import embedded_models, model_folder
from superlink.agents.options import shared_options
from superlink.agents.pictures import SourcePicture, read_picture
from superlink.router.errors import InputError
from superlink.router.messages import Prompt

if TYPE_CHECKING:
    from superlink.agents.engine import Startable
    from superlink.agents.system import System
    from superlink.agents.turn import Turn

BATCH = 8  # pictures of one generation and one decoder call
BATCH_PIXELS = 16_000_000  # of one batch, unless a single picture has more

# Bytes of a stem: most file systems allow 255 in a name, and "-2-picture-10.png" or the like follows.
STEM_BYTES = 200

EMPTY: dict[str, Any] = {"text": "", "failures": [], "artifacts": [], "timings": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One instruction for a number of pictures."""

    images: tuple[str, ...]  # paths; none for a question about no picture
    instruction: str
    model: str = "tiny"
    engine: str | Startable = "local"
    prompts: tuple[Prompt, ...] = ()
    threshold: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)  # of every decoder that has them
    seed: int = 0
    max_new_tokens: int | None = None


def run(question: Question, *, json: bool, out: Path | None) -> int:
    """Answer for every picture, in order; once, where there is none.

    Returns:
        How many pictures could not be used, had a decoder that failed or results that could not be saved.

    Raises:
        SuperlinkError: nothing can be asked at all (instruction, model, output folder).
    """
    if not question.instruction.strip():
        raise InputError("the instruction is empty; say what to do, for example 'Find every star.'")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {str(out)!r} is a file; name a folder")
    with ExitStack() as opened:
        return _answer(question, json=json, out=out, opened=opened)


def _answer(question: Question, *, json: bool, out: Path | None, opened: ExitStack) -> int:
    show = print_json if json else print_text
    if not question.images:
        system = opened.enter_context(open_system(question.model, question.engine))
        (turn,) = _ask(system, question, (), quiet=False)
        turn, saved = _saved(turn, out)
        show("", turn, saved)
        return int(bool(turn.error or turn.failures))
    stems = [] if out is None else _stems(question.images, out)
    many = len(question.images) > BATCH
    current: System | None = None
    done = failures = 0
    with progress(len(question.images)) as advance:
        for batch in _batches(question.images):
            good = [picture for _, picture in batch if isinstance(picture, SourcePicture)]
            if good and current is None:
                current = opened.enter_context(open_system(question.model, question.engine, quiet=many))
            turns = iter(_ask(current, question, good, quiet=many) if current is not None and good else ())
            for name, picture in batch:
                if isinstance(picture, InputError):
                    show(name, str(picture), {})
                    failures += 1
                else:
                    turn, saved = _saved(next(turns), out, stem=stems[done] if stems else None)
                    show(name, turn, saved)
                    failures += bool(turn.error or turn.failures)
                done += 1
                advance()
    return failures


def _saved(turn: Turn, out: Path | None, *, stem: str | None = None) -> tuple[Turn, dict[str, Path]]:
    """A turn and what was written of it; one that cannot be written says why and spares the others."""
    if out is None or turn.error:
        return turn, {}
    try:
        return turn, turn.save(out, stem=stem)
    except InputError as error:
        return replace(turn, error=str(error)), {}


def open_system(model: str, engine: str | Startable, *, quiet: bool = False) -> System:
    """Load a model; says so on a terminal, since it takes seconds."""
    folder = model_folder(model)
    with waiting(f"loading {model}", quiet=quiet), collecting_later():
        from superlink.agents.system import load

        # Pieces of work as small as an embedded model's are done before a second thread wakes up:
        # on two busy cores the first question took 2.0 CPU seconds with two threads and 0.2 with one.
        threads = 1 if model in embedded_models() else None
        return load(folder, engine=engine, threads=threads)


@contextmanager
def collecting_later() -> Iterator[None]:
    """Leave garbage alone while importing: nothing is thrown away, and looking for it took 0.8 of 4.1 s."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def waiting(words: str, *, quiet: bool = False) -> Iterator[None]:
    """A spinner on stderr, on terminals only."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{words} ..."):
        yield


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on stderr for more than one batch; yields what to call after every picture."""
    if total <= BATCH or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("pictures", total=total)
        yield lambda: bar.advance(task)


def print_json(name: str, answer: Turn | str, saved: dict[str, Path]) -> None:
    """One object on one line."""
    if isinstance(answer, str):
        line = {"image": name, **EMPTY, "error": answer}
    else:
        line = answer.to_json({key: os.fspath(path) for key, path in saved.items()})
        line["image"] = name or None
    sys.stdout.write(json_format.dumps(line) + "\n")
    sys.stdout.flush()


def print_text(
    name: str, answer: Turn | str, saved: dict[str, Path], *, keep: str = "--out DIR writes it to a file"
) -> None:
    """For people: the reply, what was found, where it was saved, and how to `keep` a picture that was not."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    error = answer if isinstance(answer, str) else answer.error
    if name:
        console.print(Text(name, style="bold"))
    if error:
        sys.stdout.flush()
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"superlink: error: {error}", "red"))
    if isinstance(answer, str):
        return
    if error and not answer.raw:  # with a reply, it is the files that are missing
        return
    for line in describe(answer, kept=saved, keep=keep):
        console.print(Text(line))
    for failure in answer.failures:
        console.print(Text(f"  {failure.call_id} failed: {failure.error}", "red"))
    for what, path in saved.items():
        console.print(Text(f"  {what}: {path}", "green"))


def describe(turn: Turn, *, kept: Iterable[str] | None = None, keep: str = "") -> Iterator[str]:
    """The reply and one line for every item found.

    Args:
        kept: ids of the pictures that were written to files; the others are said to be lost. None: none is.
        keep: what to do about those.
    """
    from superlink.decoders.artifacts import Picture
    from superlink.decoders.artifacts import Text as Words

    yield f"  {turn.text}" if turn.text else "  (no words)"
    if turn.cut:
        yield "  (cut off here: --max-new-tokens allows longer replies)"
    for artifact in turn.artifacts:
        if isinstance(artifact, Picture):
            height, width = artifact.pixels.shape[:2]
            lost = kept is not None and artifact.origin.id not in kept
            hint = f", not kept: {keep}" if lost else ""
            yield f"  {artifact.origin.id}: {width} x {height} pixels{hint}"
        elif isinstance(artifact, Words):
            yield f"  {artifact.origin.id}: {artifact.text}"
        else:
            yield f"  {artifact.origin.id}: {len(artifact) or 'nothing'} found"
            for phrase, score, box in zip(artifact.phrases, artifact.scores, artifact.xyxy, strict=True):
                corners = " ".join(f"{value:7.1f}" for value in box)
                yield f"    {phrase:<24} {score:.2f}  {corners}"


def _batches(names: Sequence[str]) -> Iterator[list[tuple[str, SourcePicture | InputError]]]:
    """Pictures that fit into memory together, or why one cannot be used."""
    batch: list[tuple[str, SourcePicture | InputError]] = []
    pixels = 0
    for name in names:
        picture = _read(name)
        more = 0 if isinstance(picture, InputError) else picture.size[0] * picture.size[1]
        if batch and (len(batch) == BATCH or pixels + more > BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append((name, picture))
        pixels += more
    if batch:
        yield batch


def _read(name: str) -> SourcePicture | InputError:
    try:
        return read_picture(name)
    except InputError as error:
        return error


def _ask(system: System, question: Question, pictures: Sequence[SourcePicture], *, quiet: bool) -> list[Turn]:
    """A turn for every picture; without any, one turn."""
    said: dict[str, Any] = {
        "prompts": question.prompts,
        "options": shared_options(question.options, system.decoders),
        "threshold": question.threshold,
        "seed": question.seed,
        "max_new_tokens": question.max_new_tokens,
    }
    with waiting("asking", quiet=quiet):
        if not pictures:
            return system.ask([question.instruction], **said)
        return system.ask(question.instruction, image=list(pictures), **said)


def _stems(names: Sequence[str], out: Path) -> list[str]:
    """Names of output files, one a picture: its own name, numbered where it would overwrite another."""
    place = out.resolve()
    inputs = {path.name for path in (Path(name).resolve() for name in names) if path.parent == place}
    taken: set[str] = set()
    stems = []
    for name in names:
        stem = candidate = _shortened(Path(name).stem) or "picture"
        number = 1
        while candidate.lower() in taken or any(_is_output(one, candidate) for one in inputs):
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(candidate.lower())
        stems.append(candidate)
    return stems


def _shortened(stem: str) -> str:
    """The first letters of a name that leave room for what is put behind it."""
    while len(os.fsencode(stem)) > STEM_BYTES:
        stem = stem[:-1]
    return stem


def _is_output(name: str, stem: str) -> bool:
    """Whether a turn saved as `stem` may write a file of that name."""
    return re.fullmatch(rf"{re.escape(stem)}-(drawn|picture-\d+)\.png", name) is not None
