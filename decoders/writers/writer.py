"""What all writers have in common: records, names of files, and picking up where a run was cut off."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture, Text
from superlink.decoders.coco import Items
from superlink.decoders.png import save_picture
from superlink.decoders.writers.records import FOLDER, Head, Record, Records
from superlink.router.errors import InputError

Artifacts = Sequence[Artifact] | Mapping[str, Artifact]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One picture and what was found in it, as a format sees them."""

    head: Head
    size: tuple[int, int] | None  # (height, width); None where there is neither picture nor items
    pixels: NDArray[np.uint8] | None  # (H, W, 3)
    artifacts: tuple[Artifact, ...]  # each with an id of its own
    text: str
    values: Mapping[str, Any]

    @property
    def found(self) -> tuple[Items, ...]:
        """Boxes, masks and keypoints."""
        return tuple(one for one in self.artifacts if isinstance(one, Boxes | Masks | Keypoints))


class Writer(ABC):
    """Takes results as they come, from any thread; `close` puts the files together.

    One writer at a time for one format in one folder. After a run that was cut off, even by `kill -9`,
    a new writer on the same folder knows what is `done`.
    """

    format: ClassVar[str]
    keeps_pictures: ClassVar[bool] = False  # unless told otherwise
    picture_folder: ClassVar[str] = "images"

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        names: Sequence[str] = (),
        categories: Sequence[str] = (),
        pictures: bool | None = None,
    ) -> None:
        """See `open_writer`."""
        for what, given in (("names", names), ("categories", categories)):
            if isinstance(given, str) or not all(isinstance(one, str) for one in given):
                raise InputError(f"{what} are a list of strings, got {given!r}")
        self.folder = Path(folder)
        self.categories = tuple(dict.fromkeys(categories))
        self._pictures = self.keeps_pictures if pictures is None else pictures
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{str(self.folder)!r} is a file; name a folder to write to")
        self._sweep()
        self._records = Records(self.folder / FOLDER / self.format)
        self._lock = threading.Lock()
        self._stems = {_plain(head.stem): name for name, head in self._records.heads.items()}
        self._given = _stems(names)

    @property
    def done(self) -> frozenset[str]:
        """Names of pictures whose results are kept: nothing needs to be run for these again."""
        with self._lock:
            return frozenset(name for name, head in self._records.heads.items() if not head.error)

    @property
    def failed(self) -> dict[str, str]:
        """Why there are no results, by the name of the picture."""
        with self._lock:
            heads = sorted(self._records.heads.items())
        return {name: head.error for name, head in heads if head.error}

    def add(
        self,
        name: str,
        picture: NDArray[np.uint8] | None,
        artifacts: Artifacts = (),
        *,
        text: str = "",
        values: Mapping[str, Any] | None = None,
        error: str = "",
    ) -> None:
        """Keep the results of one picture, whole or not at all, in place of earlier ones of that name.

        Args:
            name: of the picture, relative to where pictures come from: "site/3.jpg".
            picture: (H, W, 3) RGB, upright; None where it could not be read.
            artifacts: of this picture; a mapping gives them their ids.
            text: what the system said.
            values: further results that JSON can hold ({"missing": 2}).
            error: why there are no results; such a picture is left out of datasets.

        Raises:
            InputError: artifacts of another picture's size, a name that leads out of the folder or to
                the files of another picture, values that JSON cannot hold, or a full disk.
        """
        named = _named(artifacts)
        if picture is not None and not _is_picture(picture):
            raise InputError(f"the picture {name!r} is an array (H, W, 3) of uint8, got {_shown(picture)}")
        size = None if picture is None else (int(picture.shape[0]), int(picture.shape[1]))
        for one in named:
            if isinstance(one, Boxes | Masks | Keypoints):
                given = (int(one.size[0]), int(one.size[1]))
                size = size or given
                if size != given:
                    raise InputError(
                        f"{one.origin.id} is of a picture of size {list(given)}, {name!r} has the size "
                        f"{list(size)}"
                    )
        with self._lock:
            head = Head(name=name, stem=self._claimed(name), error=error)
        item = Item(
            head=head, size=size, pixels=picture, artifacts=named, text=text, values=dict(values or {})
        )
        try:
            body = {} if error and not self._tells_errors else self._kept(item)
            if self._pictures and picture is not None and not error:
                save_picture(picture, self.folder / self.picture_folder / f"{head.stem}.png")
            with self._lock:
                # Last, since a record says that everything of this picture is there.
                self._records.write(Record(head=head, body=body))
        except (TypeError, ValueError) as problem:
            if isinstance(problem, InputError):
                raise
            raise InputError(f"values of {name!r} are not JSON: {problem}") from problem

    def close(self) -> tuple[Path, ...]:
        """Put the files together from all records, those of earlier runs included.

        Returns:
            Files and folders for people to look at. It can be called again after more was added.

        Raises:
            InputError: a record is damaged, or a file cannot be written.
        """
        with self._lock:
            written = self._assembled(iter(self._records))
        shown = [self.folder / self.picture_folder] if self._pictures else []
        return tuple(dict.fromkeys((*written, *(path for path in shown if path.is_dir()))))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    _tells_errors: ClassVar[bool] = False  # whether pictures without results are part of the files

    @abstractmethod
    def _kept(self, item: Item) -> Mapping[str, Any]:
        """Write the files of one picture alone; what the record keeps for the others."""

    @abstractmethod
    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        """Write the files of all pictures."""

    def _claimed(self, name: str) -> str:
        known = self._records.heads.get(name)
        stem = self._given.get(name) or (_stem(name) if known is None else known.stem)
        other = self._stems.setdefault(_plain(stem), name)
        if other != name:
            raise InputError(
                f"{name!r} and {other!r} would both be written as {stem!r}; pass names= with the names of "
                f"all pictures, or rename one"
            )
        return stem

    def _sweep(self) -> None:
        """Remove what a process that was killed left half-written; other writers of this one are at work."""
        for path in self.folder.rglob(".*.part"):
            if not path.name.endswith(f".{os.getpid()}.part"):
                with suppress(OSError):
                    path.unlink()


def made_pictures(item: Item, folder: Path) -> dict[str, str]:
    """Save pictures that decoders made; their paths from `folder`, by id."""
    paths = {}
    for one in item.artifacts:
        if isinstance(one, Picture):
            place = f"made/{item.head.stem}-{one.origin.id}.png"
            save_picture(one.pixels, folder / place)
            paths[one.origin.id] = place
    return paths


def _named(artifacts: Artifacts) -> tuple[Artifact, ...]:
    """Every artifact with an id of its own, which becomes part of file names."""
    if not isinstance(artifacts, list | tuple | Mapping):
        raise InputError(f"artifacts are a list or a mapping of them, got {type(artifacts).__name__}")
    for one in artifacts.values() if isinstance(artifacts, Mapping) else artifacts:
        if not isinstance(one, Boxes | Masks | Keypoints | Picture | Text):
            raise InputError(f"a writer takes artifacts, got {type(one).__name__}; other results are values=")
    given = artifacts.items() if isinstance(artifacts, Mapping) else [(a.origin.id, a) for a in artifacts]
    taken: set[str] = set()
    named: list[Artifact] = []
    for name, one in given:
        wanted = candidate = name.replace("/", "_") or type(one).__name__.lower()
        number = 1
        while candidate in taken:
            number += 1
            candidate = f"{wanted}-{number}"
        taken.add(candidate)
        named.append(replace(one, origin=replace(one.origin, id=candidate)))
    return tuple(named)


def _is_picture(given: object) -> bool:
    return isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.shape[2:] == (3,)


def _shown(given: object) -> str:
    return f"{given.shape} of {given.dtype}" if isinstance(given, np.ndarray) else type(given).__name__


def _stem(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.stem or "\0" in name:
        raise InputError(
            f"{name!r} cannot name files in a folder; name pictures relative to where they come from"
        )
    return str(path.with_suffix(""))


def _stems(names: Sequence[str]) -> dict[str, str]:
    """Names of output files; those that would be the same are numbered in the order given."""
    taken: set[str] = set()
    stems: dict[str, str] = {}
    for name in dict.fromkeys(names):
        stem = candidate = _stem(name)
        number = 1
        while _plain(candidate) in taken:
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(_plain(candidate))
        stems[name] = candidate
    return stems


def _plain(stem: str) -> str:
    # Some file systems take "A.png" and "a.png" for one file.
    return stem.lower()
