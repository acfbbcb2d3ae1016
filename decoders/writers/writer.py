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
        self._stems = {_plain(stem): name for name, stem in self._records.stems.items()}
        self._given = _stems(names, self._records.stems)
        for name in self._records.unfinished:
            self._remove(name, self._records.files(name))

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

        Files that the earlier ones had and these have not are removed.

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
        if not isinstance(name, str):
            raise InputError(f"the name of a picture is a string, got {type(name).__name__}")
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
        told = not error or self._tells_errors
        files = tuple(sorted(self._files(item))) if told else ()
        try:
            encoded = Record(head=head, body=self._kept(item) if told else {}, files=files).encoded()
        except (TypeError, ValueError) as problem:
            raise InputError(f"values of {name!r} are not JSON: {problem}") from problem
        self._replace(item, encoded, frozenset(files))

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
        """What the record keeps of one picture for the files of all."""

    def _files(self, item: Item) -> Iterator[str]:
        """Files of one picture alone, also those that `close` writes: paths from the folder."""
        if self._saves(item):
            yield str(PurePosixPath(self.picture_folder) / f"{item.head.stem}.png")

    def _write(self, item: Item) -> None:
        """Write the files of one picture alone."""
        if item.pixels is not None and self._saves(item):
            save_picture(item.pixels, self.folder / self.picture_folder / f"{item.head.stem}.png")

    @abstractmethod
    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        """Write the files of all pictures."""

    def _saves(self, item: Item) -> bool:
        return self._pictures and item.pixels is not None and not item.head.error

    def _replace(self, item: Item, encoded: bytes, files: frozenset[str]) -> None:
        """Bring the files of one picture alone to disk in place of earlier ones, then its record."""
        head = item.head
        with self._lock:
            before = self._records.files(head.name)
            if before | files:
                # First, so that files which a killed process leaves behind are known to the next one.
                self._records.begin(head, before | files)
        try:
            self._remove(head.name, before - files)
            if files:
                self._write(item)
            with self._lock:
                # Last, since a record says that everything of this picture is there.
                self._records.write(head, encoded)
        except InputError:
            self._remove(head.name, before | files)
            raise

    def _remove(self, name: str, files: frozenset[str]) -> None:
        """Remove own files of a picture, unless another format in this folder has them for it, too."""
        for file in sorted(files - self._records.shared(name)) if files else ():
            path = self.folder / file
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                pass  # a process that was killed had not written it yet
            except OSError as error:
                raise InputError(
                    f"cannot remove {str(path)!r}, which is of earlier results of {name!r}: "
                    f"{error.strerror or error}"
                ) from error

    def _claimed(self, name: str) -> str:
        stem = self._given.get(name) or self._records.stems.get(name) or _stem(name)
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


def made_places(item: Item) -> dict[str, str]:
    """Where pictures that decoders made belong: paths from the folder, by id."""
    made = (one.origin.id for one in item.artifacts if isinstance(one, Picture))
    return {id: f"made/{item.head.stem}-{id}.png" for id in made}


def save_made(item: Item, folder: Path) -> None:
    """Save pictures that decoders made."""
    places = made_places(item)
    for one in item.artifacts:
        if isinstance(one, Picture):
            save_picture(one.pixels, folder / places[one.origin.id])


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
        if not isinstance(name, str) or not _is_file_name(name):
            raise InputError(f"ids of artifacts become names of files, which {name!r} cannot be")
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
    if path.is_absolute() or ".." in path.parts or not path.stem or not _is_file_name(name):
        raise InputError(
            f"{name!r} cannot name files in a folder; name pictures relative to where they come from"
        )
    return str(path.with_suffix(""))


def _stems(names: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Names of output files; those that would be the same are numbered in the order given.

    Args:
        names: of all pictures.
        known: names of files that were given out earlier, by picture, which stay.
    """
    taken = {_plain(stem) for stem in known.values()}
    stems = dict(known)
    for name in dict.fromkeys(names):
        if name in known:
            continue
        stem = candidate = _stem(name)
        number = 1
        while _plain(candidate) in taken:
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(_plain(candidate))
        stems[name] = candidate
    return stems


def _is_file_name(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _plain(stem: str) -> str:
    # Some file systems take "A.png" and "a.png" for one file.
    return stem.lower()
