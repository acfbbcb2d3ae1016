"""Files of records: JSON lists and JSON lines, each record with the place that errors name."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from superlink.agents.pictures import read_picture
from superlink.router.errors import DataError, InputError
from superlink.router.messages import ImageArray

T = TypeVar("T")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def checked_records(
    path: Path, check: Callable[[str, Mapping[str, Any]], T], *, skip_bad: bool
) -> tuple[list[T], tuple[str, ...]]:
    """What `check(where, record)` makes of every record, and why others were left out.

    Args:
        path: a JSON list, or one JSON object a line.
        check: raises DataError for a record that cannot be used.
        skip_bad: leave such records out.

    Raises:
        DataError: the file cannot be read, a record cannot be used, or none can.
    """
    found: list[T] = []
    skipped: list[str] = []
    for where, read in _records(path):
        try:
            record = read()
            if not isinstance(record, dict):
                raise DataError(f"{where}: expected an object, got {type(record).__name__}")
            found.append(check(where, record))
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    if not found:
        reason = f"; the first: {skipped[0]}" if skipped else ""
        raise DataError(f"{path}: has no record that can be used{reason}")
    return found, tuple(skipped)


def _records(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every record with its place; a line is parsed when it is asked for, so that a bad one stands alone."""
    text = text_of(path)
    if text.lstrip().startswith("["):
        try:
            records = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}: is not JSON: {error}") from error
        for position, record in enumerate(records):
            yield f"{path.name}, record {position}{_named(record)}", partial(_given, record)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path.name}, line {number}"
            yield where, partial(_parsed, line, where)


def text_of(path: Path) -> str:
    """Raises DataError for a file that cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _given(record: Any) -> Any:
    return record


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: is not JSON: {error}") from error


def _named(record: Any) -> str:
    key = record.get("id") if isinstance(record, dict) else None
    return "" if key is None else f" (id {key!r})"


def picture_file(where: str, folder: Path, name: object) -> Path:
    """Where a record's picture is.

    Raises:
        DataError: not a name, or no such file.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: the picture is {shortened(name)}, expected a file name")
    path = folder / name
    try:
        there = path.is_file()
    except OSError as error:  # a name longer than the disk takes, or a folder that may not be entered
        raise DataError(
            f"{where}: the picture {shortened(name)} cannot be looked up: {error.strerror or error}"
        ) from error
    if not there:
        raise DataError(f"{where}: there is no picture {str(path)!r}")
    return path


def shortened(value: object) -> str:
    """A value of a record as an error shows it: one that is long would bury what is wrong with it."""
    return _SHORT.repr(value)


def pixels_of(where: str, path: Path) -> ImageArray:
    """(H, W, 3) RGB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return read_picture(path).pixels
    except InputError as error:
        raise DataError(f"{where}: {error}") from error


def first_of(record: Mapping[str, Any], names: Sequence[str], where: str) -> Any:
    """The field under the first of several names that is there.

    Raises:
        DataError: none is.
    """
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise DataError(f"{where}: has no field {' or '.join(map(repr, names))}, only {sorted(record)}")
