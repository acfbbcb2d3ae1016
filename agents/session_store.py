"""Sessions in one SQLite file: named, saved after every round, safe for several processes at once.

A round is one row that is never changed again, and a picture is kept once, as PNG under its content hash,
however many rounds and sessions speak of it. So what a further round writes does not depend on the size of
the picture. Numbers come back exactly as they were.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeGuard

from PIL import Image

from superlink.agents.pictures import picture_id, read_picture
from superlink.agents.saved_session import SessionState
from superlink.agents.session_data import message_from_data, message_to_data, turn_from_data, turn_to_data
from superlink.agents.session_export import export_session
from superlink.agents.session_file import SessionFile
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Picture
from superlink.router.errors import InputError
from superlink.router.messages import ImageArray, Message

FILE = "sessions.db"


def home() -> Path:
    """Where sessions are kept that are asked for by name alone.

    The folder that SUPERLINK_HOME names, else `superlink` among the user's data (XDG_DATA_HOME).
    """
    if own := os.environ.get("SUPERLINK_HOME"):
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(data or Path.home() / ".local" / "share") / "superlink"


def is_name(name: object) -> TypeGuard[str]:
    """Whether a session can be called that. A lone surrogate, which SQLite refuses, is not printable."""
    return isinstance(name, str) and bool(name.strip()) and name.isprintable() and len(name) <= 200


def checked_name(name: object) -> str:
    """`name` as given, when a session can be called that.

    Raises:
        InputError: it is no line of up to 200 characters.
    """
    if not is_name(name):
        raise InputError(f"a session's name is a line of up to 200 characters, got {name!r}")
    return name


def is_round(at: object, *, least: int, most: int) -> bool:
    """Whether `at` is the number of a round in these bounds."""
    return isinstance(at, int) and not isinstance(at, bool) and least <= at <= most


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """What is known of a session without opening it."""

    name: str
    rounds: int
    pictures: int  # shown or made
    created: str  # ISO 8601, UTC
    saved: str  # when the last round was

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Round:
    """One round as it is kept."""

    asked: tuple[Message, ...]  # examples and the question
    turn: Turn


class SessionStore:
    """Sessions by name in one file. Any number of threads and processes may use it; nothing stays open."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Args:
        path: the file, made when the first round is saved; by default `sessions.db` in `home()`.
        """
        self._file = SessionFile(home() / FILE if path is None else path)
        self.path = self._file.path

    def list(self) -> tuple[StoredSession, ...]:
        """All sessions, by name.

        Raises:
            InputError: the file is no store of sessions, of another version, or cannot be read.
        """
        return self._listed("", ())

    def info(self, name: str) -> StoredSession:
        """What is known of one session.

        Raises:
            InputError: there is none of that name; otherwise as for `list`.
        """
        found = self._named(name)
        if not found:
            raise self._missing(name)
        return found[0]

    def __contains__(self, name: object) -> bool:
        return bool(self._named(name))

    def read(self, name: str) -> SessionState:
        """Everything that was said in a session, and its `row`, by which `append` knows it again.

        Raises:
            InputError: there is none of that name, or it is damaged; otherwise as for `list`.
        """
        with self._file.reading() as found:
            session = None if found is None else _id(found, name)
            if found is None or session is None:
                raise self._missing(name)
            rows = found.execute(
                "SELECT round, data FROM rounds WHERE session = ? ORDER BY round", (session,)
            ).fetchall()
            data = found.execute(
                "SELECT id, data FROM pictures WHERE id IN (SELECT picture FROM uses WHERE session = ?)",
                (session,),
            ).fetchall()
        pixels = _Pixels(dict(data), place=f"session {name!r} in {str(self.path)!r}")
        state = SessionState(row=session)
        for place, (number, text) in enumerate(rows, start=1):
            if number != place:
                raise InputError(
                    f"session {name!r} in {str(self.path)!r} is damaged: round {place} is missing"
                )
            one = _round_from(text, pixels)
            state.remember(one.asked, one.turn)
        return state

    def append(self, name: str, number: int, rounds: Sequence[Round], row: int | None = None) -> int:
        """Save further rounds, all of them or none; a session begins with its first.

        Args:
            name: of the session.
            number: of the first of `rounds`, from 1.
            rounds: one after the other.
            row: what `read` or the first `append` gave. A session that was deleted and begun anew has
                another one, though it may have as many rounds. None = whatever has the name.

        Returns:
            The row of the session.

        Raises:
            InputError: rounds of these numbers are there, or the ones before are not, since another
                process went on with the session, or deleted it; a full disk; otherwise as for `list`.
        """
        checked_name(name)
        kept = [(_round_to(one), _pictures_of(one)) for one in rounds]
        pictures = {key: pixels for _, own in kept for key, pixels in own.items()}
        # Packing takes long for a large picture, so it is done before others have to wait.
        with self._file.reading() as found:
            new = [key for key in pictures if found is None or not _has(found, key)]
        packed = {key: _packed(pictures[key]) for key in new}
        with self._file.writing() as db:
            now = _now()
            db.execute("INSERT OR IGNORE INTO sessions (name, created) VALUES (?, ?)", (name, now))
            session = _id(db, name)
            assert session is not None
            if row not in (None, session):
                raise InputError(
                    f"session {name!r} was deleted by somebody else after it was opened; open it again, or "
                    f"fork this one under another name"
                )
            (last,) = db.execute("SELECT count(*) FROM rounds WHERE session = ?", (session,)).fetchone()
            if last != number - 1:
                raise InputError(
                    f"session {name!r} has {last} rounds now, this one was to be number {number}: somebody "
                    f"else went on with it; open it again, or fork this one under another name"
                )
            for key, pixels in pictures.items():
                if not _has(db, key):
                    data = packed.get(key) or _packed(pixels)
                    db.execute("INSERT INTO pictures (id, data) VALUES (?, ?)", (key, data))
            for at, (text, own) in enumerate(kept, start=number):
                db.execute("INSERT INTO rounds VALUES (?, ?, ?, ?)", (session, at, now, text))
                db.executemany("INSERT INTO uses VALUES (?, ?, ?)", [(session, at, key) for key in own])
        return session

    def fork(self, name: str, new: str, *, at: int | None = None) -> None:
        """Begin another session with the first rounds of this one; its pictures are shared.

        Args:
            name: of the session that is there.
            new: a name that is not.
            at: how many rounds to take along, at least one; all by default.

        Raises:
            InputError: no such session or round, or the new name is taken; otherwise as for `append`.
        """
        checked_name(new)
        rounds = self.info(name).rounds
        at = rounds if at is None else at
        if not is_round(at, least=1, most=rounds):
            raise InputError(f"session {name!r} has {rounds} rounds, it cannot be forked at {at!r}")
        with self._file.writing() as db:
            old = _id(db, name)
            if old is None:
                raise self._missing(name)
            if _id(db, new) is not None:
                raise InputError(f"there is a session {new!r} already; choose another name")
            db.execute("INSERT INTO sessions (name, created) VALUES (?, ?)", (new, _now()))
            for columns, table in (("saved, data", "rounds"), ("picture", "uses")):
                db.execute(
                    f"INSERT INTO {table} (session, round, {columns}) "
                    f"SELECT ?, round, {columns} FROM {table} WHERE session = ? AND round <= ?",
                    (_id(db, new), old, at),
                )

    def export(self, name: str, folder: str | os.PathLike[str]) -> Path:
        """Write a session as `Session.export` does; `System.session(folder)` goes on with it.

        Returns:
            Where its page for people is.

        Raises:
            InputError: no such session, or the folder holds other things or cannot be written.
        """
        return export_session(self.read(name), folder)

    def delete(self, name: str) -> None:
        """Forget a session, and the pictures that no other one speaks of.

        Raises:
            InputError: there is none of that name; otherwise as for `append`.
        """
        self.info(name)
        with self._file.writing() as db:
            db.execute("DELETE FROM sessions WHERE name = ?", (name,))
            db.execute("DELETE FROM pictures WHERE id NOT IN (SELECT picture FROM uses)")

    def _named(self, name: object) -> tuple[StoredSession, ...]:
        return self._listed("WHERE s.name = ?", (name,)) if is_name(name) else ()

    def _listed(self, where: str, given: tuple[str, ...]) -> tuple[StoredSession, ...]:
        with self._file.reading() as db:
            if db is None:
                return ()
            rows = db.execute(
                "SELECT s.name, count(r.round), s.created, max(r.saved),"
                " (SELECT count(DISTINCT u.picture) FROM uses u WHERE u.session = s.id)"
                f" FROM sessions s LEFT JOIN rounds r ON r.session = s.id {where}"
                " GROUP BY s.id ORDER BY s.name",
                given,
            ).fetchall()
        return tuple(
            StoredSession(
                name=name, rounds=rounds, pictures=pictures, created=created, saved=saved or created
            )
            for name, rounds, created, saved, pictures in rows
        )

    def _missing(self, name: str) -> InputError:
        return InputError(f"no session {name!r} in {str(self.path)!r}; 'superlink sessions list' shows them")


class _Pixels:
    """Pictures of a session, each unpacked once, when it is asked for."""

    def __init__(self, packed: Mapping[str, bytes], *, place: str) -> None:
        self._packed = packed
        self._place = place
        self._read: dict[str, ImageArray] = {}

    def __call__(self, name: str) -> ImageArray:
        if name not in self._read:
            if name not in self._packed:
                raise InputError(f"{self._place} is damaged: picture {name[:12]} is missing")
            found = read_picture(self._packed[name])
            if found.id != name:
                raise InputError(
                    f"{self._place} is damaged: picture {name[:12]} is not the one that was saved"
                )
            self._read[name] = found.pixels
        return self._read[name]


def _round_to(one: Round) -> str:
    asked = [message_to_data(message) for message in one.asked]
    return json.dumps({"asked": asked, "turn": turn_to_data(one.turn)}, separators=(",", ":"))


def _round_from(text: str, pixels: _Pixels) -> Round:
    try:
        data = json.loads(text)
        return Round(
            asked=tuple(message_from_data(message, pixels) for message in data["asked"]),
            turn=turn_from_data(data["turn"], pixels),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"a saved round is damaged: {type(error).__name__} {error}") from error


def _pictures_of(one: Round) -> dict[str, ImageArray]:
    """Every picture that a round speaks of, by content hash."""
    pictures = {picture_id(image): image for message in one.asked for image in message.images}
    if one.turn.image is not None:
        pictures[one.turn.image.id] = one.turn.image.pixels
    for made in one.turn.artifacts:
        if isinstance(made, Picture):
            pictures[picture_id(made.pixels)] = made.pixels
    return pictures


def _packed(pixels: ImageArray) -> bytes:
    file = io.BytesIO()
    # The fastest level: 0.5 in place of 0.8 s for a smooth picture of four megapixels, 13 % more bytes.
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _has(db: sqlite3.Connection, picture: str) -> bool:
    return db.execute("SELECT 1 FROM pictures WHERE id = ?", (picture,)).fetchone() is not None


def _id(db: sqlite3.Connection, name: str) -> int | None:
    if not is_name(name):
        return None
    row = db.execute("SELECT id FROM sessions WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
