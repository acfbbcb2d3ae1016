"""What a writer keeps of every picture until its files are put together: one small file each.

A record is two lines of JSON, the head and the body, under `.records/<format>/` in the writer's folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
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


class Records:
    """Records of one format in one folder, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        """Look at what an earlier run left.

        Raises:
            InputError: a record cannot be read, or is of another version.
        """
        self._folder = folder
        self.heads: dict[str, Head] = {}
        for path in sorted(folder.glob("*.json")):
            head = _head(path)
            self.heads[head.name] = head

    def write(self, record: Record) -> None:
        """Keep a record in place of an earlier one of the same name.

        Raises:
            InputError: it cannot be written.
        """
        head = json.dumps({"version": VERSION, **asdict(record.head)})
        body = json.dumps(record.body, allow_nan=False)
        write_whole(self._path(record.head.name), f"{head}\n{body}\n".encode())
        self.heads[record.head.name] = record.head

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


def _head(path: Path) -> Head:
    try:
        with path.open(encoding="utf-8") as file:
            data = json.loads(file.readline())
        version = data.pop("version")
        if version != VERSION:
            raise InputError(
                f"record {str(path)!r} has version {version!r}, this version of superlink reads {VERSION}; "
                f"write to a new folder"
            )
        return Head(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"record {str(path)!r} is damaged ({error}); delete it and run that picture again")
