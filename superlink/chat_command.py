"""What `superlink chat` does: one session, a question a line, from a terminal or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from superlink.agents.options import DecoderOptions, shared_options
from superlink.agents.pictures import SourcePicture, read_picture
from superlink.ask_command import open_system, print_json, print_text, waiting
from superlink.cli import parse_box, parse_point
from superlink.router.errors import InputError
from superlink.router.messages import Box, Point, Prompt
from superlink.router.prompts import prompt_mask

if TYPE_CHECKING:
    from superlink.agents.engine import Startable
    from superlink.agents.session import Session
    from superlink.agents.turn import Turn
    from superlink.decoders.artifacts import Artifact

HELP = """\
Type a question, for example: Find every red circle.
Later questions may speak of earlier answers: Outline the largest of them.
A picture that an answer makes is what you talk about from then on.

  /image PATH          talk about another picture
  /point X,Y           click; the next question calls it by the name that is told
  /box X0,Y0,X1,Y1     mark a rectangle, likewise
  /refs ID...          the next question builds on these results, such as boxes-1
  /save [DIR]          write the last answer: drawn and made pictures, and JSON
  /keep DIR            write the whole talk; superlink chat --resume DIR goes on with it
  /fork NAME [ROUND]   go on as another session, from here or from after an earlier round
  /help                this list
  /quit                leave (so does the end of input)
"""


@dataclass(slots=True)
class _Chat:
    session: Session
    out: Path
    json: bool
    threshold: float | None
    options: DecoderOptions
    seed: int
    max_new_tokens: int | None
    next_picture: SourcePicture | None = None
    next_prompts: list[Prompt] = field(default_factory=list)
    next_refs: list[Artifact] = field(default_factory=list)

    def command(self, line: str) -> bool:
        """Do what a line beginning with "/" says; False = leave.

        Raises:
            InputError: no such command, or it cannot be done.
        """
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("/quit", "/exit"):
            return False
        if word == "/help":
            self.tell(HELP.rstrip())
        elif word == "/image":
            if not rest:
                raise InputError("/image needs a path: /image scene.png")
            self.next_picture = read_picture(rest)
            self.next_prompts, self.next_refs = [], []
            height, width = self.next_picture.size
            self.tell(f"now about {rest}, {width} x {height} pixels")
        elif word in ("/point", "/box"):
            self.mark(_prompt(word, rest))
        elif word == "/refs":
            if not rest:
                raise InputError("/refs needs ids of earlier results: /refs boxes-1")
            self.next_refs = [self.session.artifact(name) for name in rest.replace(",", " ").split()]
            self.tell(f"the next question builds on {rest}")
        elif word == "/keep":
            if not rest:
                raise InputError("/keep needs a folder: /keep talk")
            self.session.save(rest)
            self.tell(f"kept in {rest}; superlink chat --resume {rest} goes on")
        elif word == "/fork":
            self.fork(rest)
        elif word == "/save":
            self.save(Path(rest) if rest else self.out)
        else:
            raise InputError(f"no command {word!r}; /help lists them")
        return True

    def mark(self, prompt: Prompt) -> None:
        picture = self.next_picture or self.session.picture
        if picture is None:
            raise InputError("a click or a box needs a picture to lie on; /image PATH gives one")
        prompt_mask(prompt, picture.size)
        self.next_prompts.append(prompt)
        self.tell(f"the next question calls it region{self.session.region_count + len(self.next_prompts)}")

    def fork(self, words: str) -> None:
        name, _, number = words.partition(" ")
        if not name or (number and not number.strip().isdecimal()):
            raise InputError("/fork needs a name and perhaps a round: /fork other 2")
        self.session = self.session.fork(int(number) if number else None, name=name)
        self.next_picture, self.next_prompts, self.next_refs = None, [], []
        self.tell(f"this is session {name} now, with {len(self.session.turns)} rounds")

    def save(self, folder: Path) -> None:
        if not self.session.turns:
            raise InputError("nothing to save yet; ask something first")
        turn = self.session.turns[-1]
        name = "chat" if turn.image is None else Path(turn.image.name).stem or "chat"
        saved = turn.save(folder, stem=f"{name}-{turn.round}")
        self.tell("\n".join(f"{what}: {path}" for what, path in saved.items()))

    def ask(self, text: str) -> bool:
        """Ask and print; False = a decoder failed."""
        # Said for one question alone, also where it cannot be asked.
        prompts, self.next_prompts = self.next_prompts, []
        refs, self.next_refs = self.next_refs, []
        before = len(self.session.turns)
        try:
            with waiting("asking"):
                self.session.ask(
                    text,
                    image=self.next_picture,
                    prompts=prompts,
                    refs=refs,
                    options=self.options,
                    threshold=self.threshold,
                    seed=self.seed,
                    max_new_tokens=self.max_new_tokens,
                )
        finally:
            # Also where the answer is there but could not be saved.
            if len(self.session.turns) > before:
                self.next_picture = None
                self.show(self.session.turns[-1])
        return not self.session.turns[-1].failures

    def show(self, turn: Turn) -> None:
        name = "" if turn.image is None else turn.image.name
        if self.json:
            print_json(name, turn, {})
        else:
            print_text(name, turn, {}, keep="/save writes it to a file")

    def tell(self, words: str) -> None:
        # Next to JSON, words for people go to stderr.
        stream = sys.stderr if self.json else sys.stdout
        stream.write(words + "\n")
        stream.flush()


def run(
    *,
    image: str | None,
    model: str,
    engine: str | Startable,
    json: bool,
    out: Path,
    resume: Path | None,
    name: str | None = None,
    store: Path | None = None,
    threshold: float | None,
    options: Mapping[str, object],
    seed: int,
    max_new_tokens: int | None,
) -> int:
    """Talk until the end of input.

    Args:
        resume: folder of a session to go on with.
        name: of a session that is saved after every question, and gone on with where there is one.
        store: the file where it is kept; by default in the user's data folder.

    Returns:
        How many lines could not be answered, where nobody was there to see it and try again;
        0 on a terminal.

    Raises:
        SuperlinkError: the first picture or the model cannot be used.
    """
    from superlink.agents.session_store import SessionStore

    picture = None if image is None else read_picture(image)
    kept = None if name is None else SessionStore(store)
    system = open_system(model, engine)
    chat = _Chat(
        session=system.session(resume, name=name, store=kept),
        out=out,
        json=json,
        threshold=threshold,
        options=shared_options(options, system.decoders),
        seed=seed,
        max_new_tokens=max_new_tokens,
        next_picture=picture,
    )
    typed = sys.stdin.isatty()
    if typed:
        chat.tell("Ask about the picture; /help lists commands, /quit leaves.")
    if name is not None:
        chat.tell(f"session {name}: {len(chat.session.turns)} rounds so far")
    failures = 0
    try:
        for line in _lines(typed=typed):
            try:
                if line.startswith("/"):
                    if not chat.command(line):
                        break
                else:
                    failures += not chat.ask(line)
            except InputError as error:
                failures += 1
                if json and not line.startswith("/"):
                    print_json(chat.session.picture.name if chat.session.picture else "", str(error), {})
                else:
                    sys.stderr.write(f"superlink: error: {error}\n")
    except KeyboardInterrupt:
        chat.tell("")
    finally:
        system.close()
    return 0 if typed else failures


def _prompt(word: str, numbers: str) -> Point | Box:
    try:
        return parse_point(numbers) if word == "/point" else parse_box(numbers)
    except typer.BadParameter as error:
        raise InputError(f"{word}: {error.message}") from error


def _lines(*, typed: bool) -> Iterator[str]:
    """Lines of standard input without blank ones."""
    if not typed:
        for line in sys.stdin:
            if line.strip():
                yield line.strip()
        return
    import readline  # noqa: F401  # gives `input` a history and arrow keys

    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return
        if line:
            yield line
