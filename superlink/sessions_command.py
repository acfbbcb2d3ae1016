"""What `superlink sessions` does: look at talks that were saved by name."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Any

from superlink.agents.session_store import SessionStore
from superlink.ask_command import describe


def list_sessions(store: Path | None, *, json: bool) -> None:
    """One line a session, by name.

    Raises:
        InputError: the file is no store of sessions, or cannot be read.
    """
    kept = SessionStore(store)
    found = kept.list()
    if json:
        for one in found:
            _line(one.to_json())
        return
    if not found:
        _tell(f"no sessions in {kept.path}; superlink chat --session NAME begins one")
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        when = one.saved.replace("T", " ")[:16]
        _tell(f"{one.name:<{width}}  {one.rounds:>4} rounds  {one.pictures:>3} pictures  {when} UTC")


def show_session(store: Path | None, name: str, *, json: bool) -> None:
    """Every round: the question, the answer and what was found.

    Raises:
        InputError: there is no such session, or it is damaged.
    """
    for number, (asked, turn) in enumerate(SessionStore(store).read(name).rounds(), start=1):
        question = asked[-1].text
        if json:
            _line({"round": number, "asked": question, **turn.to_json()})
            continue
        about = f"  ({turn.image.name})" if turn.image is not None and turn.image.name else ""
        _tell(f"{number}. {question}{about}")
        for line in describe(turn):
            _tell(line)
        for failure in turn.failures:
            _tell(f"  {failure.call_id} failed: {failure.error}")


def export_session(store: Path | None, name: str, folder: Path, *, json: bool) -> None:
    """Write a session to a folder.

    Raises:
        InputError: there is no such session, or the folder holds other things or cannot be written.
    """
    page = SessionStore(store).export(name, folder)
    if json:
        _line({"name": name, "folder": str(folder), "page": str(page)})
    else:
        _tell(f"{page}; superlink chat --resume {folder} goes on with it")


def delete_session(store: Path | None, name: str, *, json: bool) -> None:
    """Forget a session.

    Raises:
        InputError: there is no such session, or the file cannot be written.
    """
    SessionStore(store).delete(name)
    if json:
        _line({"name": name, "deleted": True})
    else:
        _tell(f"deleted {name}")


def _line(data: dict[str, Any]) -> None:
    sys.stdout.write(json_format.dumps(data) + "\n")


def _tell(words: str) -> None:
    sys.stdout.write(words + "\n")
