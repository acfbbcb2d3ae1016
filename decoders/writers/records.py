"""What a writer keeps of every picture until its files are put together: one small file each.

A record is three lines of JSON, the head, the body and the picture's own files, under
`.records/<format>/` in the writer's folder. While own files change it has no body and is unfinished: after
a run that was cut off there, the picture counts as one that was never added, and its files are known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from superlink.decoders.files import write_whole
from superlink.router.errors import InputError

VERSION = 1
FOLDER = ".records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Which picture a record is of."""

    name: str  # as it was given: "site/3.jpg"
    stem: str  # what its own files are called: "site/3"
    error: str = ""  # why there are no results


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    head: Head
    body: Mapping[str, Any]  # what the format needs of it
    files: tuple[str, ...] = ()  # of this picture alone: paths from the writer's folder

    def encoded(self) -> bytes:
        """What is kept on disk.

        Raises:
            TypeError, ValueError: the body holds what JSON cannot.
        """
        head = json.dumps({"version": VERSION, **asdict(self.head)})
        body = json.dumps(self.body, allow_nan=False)
        return f"{head}\n{body}\n{json.dumps(self.files)}\n".encode()


class Records:
    """Records of one format in one folder, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        """Look at what an earlier run left.

        Raises:
            InputError: a record cannot be read, or is of another version.
        """
        self._folder = folder
        self.heads: dict[str, Head] = {}  # of finished records
        self.stems: dict[str, str] = {}  # of all records, by the picture's name
        for path in sorted(folder.glob("*.json")):
            head, unfinished = _head(path)
            self.stems[head.name] = head.stem
            if not unfinished:
                self.heads[head.name] = head

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Names of pictures whose own files may be there in part."""
        return tuple(name for name in self.stems if name not in self.heads)

    def begin(self, head: Head, files: Iterable[str]) -> None:
        """Note that own files of a picture change now: until `write`, it has no results.

        Args:
            head: of the record to come.
            files: those that are there now and those that will be.

        Raises:
            InputError: it cannot be written; an earlier record is still there.
        """
        first = json.dumps({"version": VERSION, **asdict(head), "unfinished": True})
        write_whole(self._path(head.name), f"{first}\n{{}}\n{json.dumps(sorted(files))}\n".encode())
        self.heads.pop(head.name, None)
        self.stems[head.name] = head.stem

    def write(self, head: Head, encoded: bytes) -> None:
        """Keep a record in place of an earlier one of the same name.

        Raises:
            InputError: it cannot be written.
        """
        write_whole(self._path(head.name), encoded)
        self.heads[head.name] = head
        self.stems[head.name] = head.stem

    def files(self, name: str) -> frozenset[str]:
        """Own files of a picture, of which some may be missing where its record is unfinished.

        Raises:
            InputError: its record is damaged.
        """
        return _files(self._path(name)) if name in self.stems else frozenset()

    def shared(self, name: str) -> frozenset[str]:
        """Files of a picture that writers of other formats in the same folder have for it, too."""
        own = self._path(name)
        others = [path for path in own.parent.parent.glob(f"*/{own.name}") if path != own]
        return frozenset(file for path in others for file in _files(path))

    def __iter__(self) -> Iterator[Record]:
        """Records with results, one at a time.

        Raises:
            InputError: one is damaged.
        """
        for name in sorted(self.heads):
            path = self._path(name)
            try:
                body = json.loads(path.read_text(encoding="utf-8").split("\n")[1])
            except (OSError, ValueError, IndexError) as error:
                raise _damaged(path, error) from error
            yield Record(head=self.heads[name], body=body)

    def _path(self, name: str) -> Path:
        # Names may be longer than a file's name may be, and have slashes.
        return self._folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.json"


def _files(path: Path) -> frozenset[str]:
    try:
        # Records of earlier versions have no third line.
        files = json.loads(path.read_text(encoding="utf-8").split("\n")[2] or "[]")
        places = [PurePosixPath(file) for file in files]
        if any(place.is_absolute() or ".." in place.parts for place in places):
            raise ValueError("it names files outside of the folder")
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise _damaged(path, error) from error
    return frozenset(files)


def _head(path: Path) -> tuple[Head, bool]:
    """The head of a record, and whether the record is unfinished."""
    try:
        with path.open(encoding="utf-8") as file:
            data = json.loads(file.readline())
        version = data.pop("version")
        if version != VERSION:
            raise InputError(
                f"record {str(path)!r} has version {version!r}, this version of superlink reads {VERSION}; "
                f"write to a new folder"
            )
        unfinished = bool(data.pop("unfinished", False))
        return Head(**data), unfinished
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"record {str(path)!r} is damaged ({error}); delete it and run that picture again")
