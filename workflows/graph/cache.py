"""Caches of step values, by a hash of everything that they follow from: only what changed runs again.

    wf = Workflow("stars", cache=DiskCache("cache"))
    replayed = wf.using(cache=DiskCache("cache", replay=True))  # never asks a system

What a user's function reads from elsewhere (files, globals) is not part of the hash; such a step says
`cache=False`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from superlink.decoders.files import write_whole
from superlink.router.errors import InputError
from superlink.workflows.graph.stored import NotStorable, from_bytes, to_bytes

logger = logging.getLogger(__name__)

FORMAT = 2
PATIENCE = 60.0  # seconds to wait for other processes
SMALL = 16_384  # bytes; larger values are files of their own, which SQLite would copy around


class MemoryCache:
    """Values of this process; the ones that were not used for the longest time are forgotten first.

    They are the very objects that steps gave: whoever changes one in place changes the cache too.
    """

    replays = False

    def __init__(self, most: int = 1024) -> None:
        if most < 1:
            raise InputError(f"a cache keeps at least one value, got {most}")
        self._most = most
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: str | None) -> tuple[Any] | None:
        with self._lock:
            if key is None or key not in self._values:
                return None
            self._values.move_to_end(key)
            return (self._values[key],)

    def keep(self, key: str | None, value: Any) -> None:
        if key is None:
            return
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def system(self, identity: Callable[[], str]) -> str:
        return identity()

    def __len__(self) -> int:
        return len(self._values)


class DiskCache:
    """Values in a folder: an SQLite file, with large ones as files beside it. Several processes may share it.

    A value that is damaged or that cannot be written costs a step its time, not its result.

    Args:
        folder: made if it is missing.
        replay: nothing that asks a system is made anew; what is missing is an error. So a recorded run
            gives the same again without a router. Nothing is added.

    Raises:
        InputError: the folder cannot be used, or was written by another version.
    """

    def __init__(self, folder: str | os.PathLike[str], *, replay: bool = False) -> None:
        self.replays = replay
        self._folder = Path(folder)
        self._lock = threading.Lock()
        self._complained = False
        file = self._folder / "cache.sqlite"
        if replay and not file.is_file():
            raise InputError(f"there is no recording in {str(self._folder)!r}")
        try:
            (self._folder / "values").mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, timeout=PATIENCE, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"the cache {str(self._folder)!r} cannot be used: {error}") from error
        found = self._about("format")
        if found != str(FORMAT):
            self.close()
            raise InputError(
                f"the cache {str(self._folder)!r} has format {found}, this version reads {FORMAT}; "
                f"name a new folder"
            )

    def _prepare(self) -> None:
        """Make the tables. Processes that come first together wait for each other.

        SQLite does not: a change to WAL beside another connection is "locked" at once, whatever its timeout.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with self._database as database:
                    if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                        database.execute("PRAGMA journal_mode=WAL")
                    database.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
                    database.execute(
                        "CREATE TABLE IF NOT EXISTS steps (key TEXT PRIMARY KEY, data BLOB, made REAL)"
                    )
                    database.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(FORMAT),))
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def find(self, key: str | None) -> tuple[Any] | None:
        """The value in a tuple; None where there is none.

        Raises:
            InputError: it replays, and the value cannot be read.
        """
        try:
            data = None if key is None else self._data(key)
            return None if data is None else (from_bytes(data),)
        except InputError as error:
            if self.replays:
                raise
            self._complain(error)  # the step makes it again
            return None

    def keep(self, key: str | None, value: Any) -> None:
        if key is None or self.replays:
            return
        try:
            data = to_bytes(value)
        except NotStorable:
            return  # it is made again next time
        inside: bytes | None = data
        try:
            if len(data) > SMALL:
                write_whole(self._place(key), data)
                inside = None
            with self._lock, self._database as database:
                database.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", (key, inside, time.time()))
        except (InputError, sqlite3.Error) as error:
            self._complain(error)

    def system(self, identity: Callable[[], str]) -> str:
        """Of a recording, that of the system that was recorded; so a replay loads none."""
        known = self._about("system") if self.replays else None
        if known is not None:
            return known
        found = identity()
        try:
            if not self.replays and self._about("system") != found:
                with self._lock, self._database as database:
                    database.execute("INSERT OR REPLACE INTO about VALUES ('system', ?)", (found,))
        except (InputError, sqlite3.Error) as error:
            self._complain(error)
        return found

    def close(self) -> None:
        """Give the files back."""
        with self._lock:
            self._database.close()

    def __len__(self) -> int:
        with self._lock, closing(self._database.execute("SELECT COUNT(*) FROM steps")) as rows:
            return int(rows.fetchone()[0])

    def _about(self, name: str) -> str | None:
        try:
            with self._lock:
                row = self._database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            raise InputError(f"the cache {str(self._folder)!r} cannot be read: {error}") from error
        return None if row is None else str(row[0])

    def _complain(self, error: Exception) -> None:
        """Once: a full disk would say the same of every step."""
        with self._lock:
            said, self._complained = self._complained, True
        if not said:
            logger.warning(
                "the cache %r cannot keep everything, so some steps run again: %s", str(self._folder), error
            )

    def _data(self, key: str) -> bytes | None:
        try:
            with self._lock:
                row = self._database.execute("SELECT data FROM steps WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            return bytes(row[0]) if row[0] is not None else self._place(key).read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"the cache {str(self._folder)!r} cannot be read: {error}") from error

    def _place(self, key: str) -> Path:
        return self._folder / "values" / f"{key}.zip"
