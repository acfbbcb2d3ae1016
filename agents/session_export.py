"""A session as a page for people: what was said, and what was found drawn on its picture.

talk.md             the rounds in order, with links to the drawings
turns/03-drawn.png  the third round's drawing, where it found or made anything
turns/03-turn.json  what it gave as data; pictures that it made are beside it
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from superlink.agents.saved_session import SessionState, write_session
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Picture, Text
from superlink.decoders.files import write_whole
from superlink.router.messages import Message

PAGE = "talk.md"
TURNS = "turns"


def export_session(state: SessionState, folder: str | os.PathLike[str]) -> Path:
    """Write the page, its drawings, and the session itself as `write_session` does.

    Returns:
        Where the page is.

    Raises:
        InputError: the folder holds other things or cannot be written, or as for `SessionState.rounds`.
    """
    target = Path(folder)
    write_session(state, target)
    parts = []
    for number, (asked, turn) in enumerate(state.rounds(), start=1):
        pictures = _saved(turn, target / TURNS, stem=f"{number:02d}")
        parts.append(_part(number, asked, turn, [path.relative_to(target).as_posix() for path in pictures]))
    return write_whole(target / PAGE, "\n".join(parts).encode("utf-8", "backslashreplace"))


def _saved(turn: Turn, folder: Path, *, stem: str) -> list[Path]:
    """Write what a turn gave; the pictures among it, of which there are none where nothing was found."""
    if any(isinstance(one, Picture) or (not isinstance(one, Text) and len(one)) for one in turn.artifacts):
        return [path for what, path in turn.save(folder, stem=stem).items() if what != "json"]
    # A drawing would be nothing but the picture again.
    write_whole(folder / f"{stem}-turn.json", json.dumps(turn.to_json()).encode() + b"\n")
    return []


def _part(number: int, asked: Sequence[Message], turn: Turn, pictures: Sequence[str]) -> str:
    lines = [f"## {number}", ""]
    if turn.image is not None and turn.image.name:
        lines += [f"About `{turn.image.name}`.", ""]
    lines += [*(f"> {line}" for line in asked[-1].text.splitlines()), "", turn.text, ""]
    lines += [f"- failed: {failure.call_id}: {failure.error}" for failure in turn.failures]
    lines += [f"![{Path(path).stem}]({path})" for path in pictures]
    return "\n".join(lines).rstrip() + "\n"
