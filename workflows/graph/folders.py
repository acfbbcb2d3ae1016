"""A workflow over a folder of pictures, with results that survive being killed.

A writer keeps one record a picture, whole or not at all. Whoever goes on later runs what has no record or
failed, and what is put together at the end follows from the records alone: it is what an unbroken run gives.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture, Text
from superlink.decoders.export import to_json
from superlink.decoders.files import write_whole
from superlink.decoders.writers import Writer, open_writer
from superlink.router.errors import InputError
from superlink.workflows.graph.checking import check
from superlink.workflows.graph.definition import InputNode
from superlink.workflows.graph.digests import step_identity
from superlink.workflows.graph.errors import StepError, WorkflowError
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.port_types import fits
from superlink.workflows.graph.results import Result
from superlink.workflows.graph.workflow import Workflow

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What came of a run."""

    total: int  # pictures in the folder
    done: int  # have results now, those of earlier runs included
    skipped: int  # had results already
    failed: tuple[tuple[str, str], ...]  # name and reason
    stopped: bool  # more failed than was allowed
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `superlink run --json` prints it."""
        return {
            "total": self.total,
            "done": self.done,
            "skipped": self.skipped,
            "failed": [{"image": name, "error": reason} for name, reason in self.failed],
            "stopped": self.stopped,
            "files": [str(file) for file in self.files],
        }


class Place(Protocol):
    """Where the pictures of a run are worked on."""

    def finished(
        self, workflow: Workflow, pictures: Mapping[str, Path]
    ) -> Generator[tuple[str, Result | StepError, Image | None], None, None]:
        """Name, outcome and the picture as it was read, of every picture as it is finished; in any order.

        Args:
            workflow: with one picture as its input.
            pictures: files, by name.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """In this process."""

    max_concurrency: int | None = 1  # pictures on their way at the same time

    def finished(
        self, workflow: Workflow, pictures: Mapping[str, Path]
    ) -> Generator[tuple[str, Result | StepError, Image | None], None, None]:
        """See `Place`."""
        names, port = list(pictures), picture_input(workflow).name
        inputs = ({port: pictures[name]} for name in names)
        results = workflow.with_inputs_as_completed(inputs, max_concurrency=self.max_concurrency)
        with closing(results):
            for index, outcome, given in results:
                photo = given.get(port)
                yield names[index], outcome, photo if isinstance(photo, Image) else None


def pictures_in(folder: Path) -> list[str]:
    """Names of all pictures in a folder and below it, sorted, with "/" between folders.

    Raises:
        InputError: no such folder, one that may not be read, or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}")

    def refuse(error: OSError) -> None:
        raise InputError(
            f"the folder {error.filename!r} may not be read: {error.strerror}; allow it, or move it elsewhere"
        ) from error

    found: list[Path] = []
    for parent, below, files in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        # A link to nothing is one, too: it fails by itself, and is told.
        found += [
            one for one in paths if one.suffix.lower() in SUFFIXES and (one.is_file() or one.is_symlink())
        ]
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    if not names:
        raise InputError(f"no picture in {str(folder)!r}; pictures end in {', '.join(SUFFIXES)}")
    return names


def _without(names: list[str], images: Path, out: Path) -> list[str]:
    """Names of pictures that are not results.

    Raises:
        InputError: nothing is left, or results would lie between the pictures.
    """
    folder, results = images.resolve(), out.resolve()
    if folder == results:
        raise InputError(f"{str(out)!r} holds the pictures themselves; name another folder for the results")
    if not results.is_relative_to(folder):
        return names
    below = results.relative_to(folder).as_posix() + "/"
    left = [name for name in names if not name.startswith(below)]
    if not left:
        raise InputError(f"no picture in {str(images)!r} but what is in {str(out)!r}")
    return left


def picture_input(workflow: Workflow) -> InputNode:
    """The one input that pictures go to.

    Raises:
        WorkflowError: there is none, or another input has no default.
    """
    needed = [node for node in workflow.graph.inputs if node.default is ...]
    if len(needed) != 1 or not fits(Image, needed[0].type):
        names = ", ".join(node.name for node in needed) or "none"
        raise WorkflowError(
            f"a folder of pictures goes through a workflow with one Image as its only input without a "
            f"default; {workflow.name!r} needs {names}"
        )
    return needed[0]


def run_folder(
    workflow: Workflow,
    images: Path,
    out: Path,
    *,
    format: str = "jsonl",
    resume: bool = False,
    max_failures: int | None = None,
    max_concurrency: int | None = 1,
    place: Place | None = None,
    about: str = "",
    started: Callable[[int, int], None] = lambda total, skipped: None,
    advance: Callable[[str], None] = lambda name: None,
) -> Summary:
    """Run a workflow on every picture of a folder and write the results.

    Args:
        workflow: with one picture as its input.
        images: the folder; pictures below it are taken along.
        out: where results go.
        format: of the results, see `superlink.decoders.writers`.
        resume: go on with what an earlier run left there; pictures that failed are tried again.
        max_failures: stop when more pictures failed; None never stops.
        max_concurrency: pictures on their way at the same time in this process; None: as many as it takes.
            With more than one, what happens to run together decides how last digits are rounded.
        place: where they are worked on instead; see `superlink.workflows.graph.ray_data`.
        about: of the model; a run is only resumed with the same.
        started: told the number of pictures, and of those that are done already.
        advance: told the name of every picture that is finished.

    Raises:
        WorkflowError: the workflow is wrong, or not for pictures.
        InputError: a folder cannot be used, or holds the results of another run.
    """
    workflow.check()
    picture_input(workflow)
    names = _without(pictures_in(images), images, out)
    writer = open_writer(format, out, names=names)
    _claim(out, _identity(workflow, format, about), resume=resume)
    done = writer.done
    waiting = [name for name in names if name not in done]
    started(len(names), len(names) - len(waiting))
    failed: list[tuple[str, str]] = []
    stopped = False
    place = place or Here(max_concurrency=max_concurrency)
    with closing(place.finished(workflow, {name: images / name for name in waiting})) as results:
        for name, outcome, picture in results:
            error = _keep(writer, name, outcome, picture)
            advance(name)
            if error:
                failed.append((name, error))
                stopped = max_failures is not None and len(failed) > max_failures
            if stopped:
                break
    return Summary(
        total=len(names),
        done=len(writer.done.intersection(names)),
        skipped=len(names) - len(waiting),
        failed=tuple(sorted(failed)),
        stopped=stopped,
        files=writer.close(),
    )


def _identity(workflow: Workflow, format: str, about: str) -> dict[str, Any]:
    """What a run that goes on must have in common with the one before it."""
    try:
        data = json.dumps(workflow.to_data(), sort_keys=True)
    except WorkflowError:  # a lambda, which no file can hold: told apart by its code
        steps = [(one.flat.name, step_identity(one.flat.step)) for one in check(workflow.graph).steps]
        data = json.dumps([workflow.describe(), steps], sort_keys=True)
    return {
        "workflow": workflow.name,
        "definition": hashlib.sha256(data.encode()).hexdigest(),
        "format": format,
        "model": about,
    }


def _claim(out: Path, identity: dict[str, Any], *, resume: bool) -> None:
    """Note in the folder which run it belongs to.

    Raises:
        InputError: it belongs to another one.
    """
    file = out / RUN_FILE
    if not file.is_file():
        write_whole(file, json.dumps(identity, indent=2).encode() + b"\n")
        return
    if not resume:
        raise InputError(f"{str(out)!r} holds results already; go on with --resume, or name a new folder")
    try:
        before = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{str(file)!r} cannot be read: {error}") from error
    for key, value in identity.items():
        if not isinstance(before, dict) or before.get(key) != value:
            raise InputError(
                f"{str(out)!r} holds results of another run: its {key} is not {value!r}; name a new folder"
            )


def _keep(writer: Writer, name: str, outcome: Result | StepError, picture: Image | None) -> str:
    """Write the results of one picture; the reason, if it failed."""
    errors = (outcome,) if isinstance(outcome, StepError) else outcome.errors
    size = None if picture is None else picture.size
    artifacts: dict[str, Artifact] = {}
    values: dict[str, Any] = {}
    error = "; ".join(str(one) for one in errors)
    pixels = None if picture is None else picture.pixels
    try:
        for key, value in {} if isinstance(outcome, StepError) else outcome.items():
            _sort(key, value, size, artifacts, values)
        writer.add(name, pixels, artifacts, values=values, error=error)
    except InputError as problem:
        if error:
            raise
        error = str(problem)
        writer.add(name, pixels, error=error)
    return error


def _sort(
    key: str, value: Any, size: tuple[int, int] | None, artifacts: dict[str, Artifact], values: dict[str, Any]
) -> None:
    """Put one output among the artifacts of the picture, or among other values."""
    if isinstance(value, Image):
        value = Picture(pixels=value.pixels)
    if isinstance(value, Picture | Text) or (
        isinstance(value, Boxes | Masks | Keypoints) and tuple(value.size) == size
    ):
        artifacts[key] = value
    elif isinstance(value, list) and any(isinstance(one, Image | Picture) for one in value):
        for place, one in enumerate(value):
            _sort(f"{key}-{place}", one, size, artifacts, values)
    else:
        values[key] = _plain(value)


def _plain(value: Any) -> Any:
    """A value as JSON holds it; what is of crops stands in their own pixels."""
    if isinstance(value, StepError):
        return {"error": str(value)}
    if isinstance(value, Boxes | Masks | Keypoints | Picture | Text):
        return to_json(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
