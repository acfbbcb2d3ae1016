"""The SQLite file behind `SessionStore`: its tables and its transactions.

    sessions (id, name, created)            a name is given once
    rounds   (session, round, saved, data)  JSON of the question and its turn
    pictures (id, data)                     PNG
    uses     (session, round, picture)      which rounds speak of which picture

A connection lives as long as one transaction, so threads, forks and other processes need no care. The
journal is SQLite's own, which is rolled back by whoever opens the file next: there is one file, and a
process that is killed leaves nothing half-written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from superlink.router.errors import InputError

VERSION = 1
APPLICATION = 0x534C4E4B  # in the header of the file, so that no other database is taken for one
WAIT = 30.0  # seconds for another process that writes

_TABLES = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    created TEXT NOT NULL
);
CREATE TABLE rounds (
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    round INTEGER NOT NULL,
    saved TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (session, round)
);
CREATE TABLE pictures (id TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE uses (
    session INTEGER NOT NULL,
    round INTEGER NOT NULL,
    picture TEXT NOT NULL REFERENCES pictures (id),
    PRIMARY KEY (session, round, picture),
    FOREIGN KEY (session, round) REFERENCES rounds (session, round) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX uses_of_pictures ON uses (picture);
"""


class SessionFile:
    """Transactions on one file, which is made when something is first written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path = Path(path).absolute()  # the same file, wherever the process goes later
        except OSError as error:
            raise InputError(
                f"sessions in {os.fspath(path)!r}: the folder that this process is in is gone; "
                f"name a path from the root"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A consistent view; None where there is no file yet."""
        try:
            there = self.path.exists()
        except OSError as error:  # a name that is too long, a folder that may not be looked into
            raise InputError(f"sessions in {str(self.path)!r}: {error.strerror or error}") from error
        if not there:
            yield None
            return
        with self._connected() as db:
            db.execute("BEGIN")
            yield db if _checked(db, self.path) else None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own: all of it is kept or nothing, also where the process is killed."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make {str(self.path.parent)!r}: {error.strerror or error}") from error
        with self._connected() as db:
            if not self.path.stat().st_size:
                # Only a new file takes it: room of deleted pictures is given back.
                db.execute("PRAGMA auto_vacuum = FULL")
            db.execute("BEGIN IMMEDIATE")
            if not _checked(db, self.path):
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        db: sqlite3.Connection | None = None
        try:
            db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            db.execute("PRAGMA foreign_keys = ON")
            yield db
        except sqlite3.Error as error:
            raise InputError(f"sessions in {str(self.path)!r}: {error}") from error
        finally:
            if db is not None:
                db.close()  # what was not committed is undone


def _checked(db: sqlite3.Connection, path: Path) -> bool:
    """Whether it is a store of sessions; False where it is empty."""
    (application,), (version,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application:
        return False
    if application != APPLICATION:
        raise InputError(f"{str(path)!r} is a database of something else, not of sessions; name another file")
    if version != VERSION:
        raise InputError(
            f"sessions in {str(path)!r} have version {version}, this version of superlink reads {VERSION}; "
            f"name another file, or use the version that wrote them"
        )
    return True
