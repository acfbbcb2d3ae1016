"""What a session remembers, and its folder.

    session.json        everything but pixels; written last, it makes the folder complete
    pictures/<id>.png   every picture that was shown or made, by its content hash

Numbers come back exactly as they were, so refs of a session that was loaded give what they gave before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from superlink.agents.pictures import SourcePicture, picture_id, read_picture
from superlink.agents.session_data import (
    message_from_data,
    message_to_data,
    picture_from,
    turn_from_data,
    turn_to_data,
)
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Picture
from superlink.decoders.files import write_whole
from superlink.decoders.png import save_picture
from superlink.router.errors import InputError
from superlink.router.messages import ImageArray, Message

FORMAT = 1
SESSION_FILE = "session.json"
PICTURES = "pictures"


@dataclass(slots=True, kw_only=True, eq=False)
class SessionState:
    """Everything that later rounds build on."""

    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    pictures: dict[str, SourcePicture] = field(default_factory=dict)  # shown or made, by content hash
    current: str = ""  # id of the picture that the next question is about
    shown: str = ""  # id of the picture that the conversation showed last
    prompt_pictures: list[str] = field(default_factory=list)  # of each prompt so far, where it lies
    ends: list[int] = field(default_factory=list)  # how many messages there were after each round
    row: int | None = None  # by which a store knows the session; None for one that no store keeps

    def remember(self, asked: Sequence[Message], turn: Turn) -> None:
        """One more round: examples and question, and what they gave."""
        for message in asked:
            if message.images:
                self.shown = picture_id(message.images[-1])
            self.prompt_pictures += [self.shown] * len(message.prompts)
        self.messages += [*asked, Message(role="assistant", text=turn.raw)]
        self.ends.append(len(self.messages))
        self.turns.append(turn)
        made = [
            SourcePicture(pixels=one.pixels, id=picture_id(one.pixels), name=one.origin.id)
            for one in turn.artifacts
            if isinstance(one, Picture)
        ]
        for picture in ([turn.image] if turn.image is not None else []) + made:
            self.pictures.setdefault(picture.id, picture)
            self.current = picture.id

    def rounds(self) -> Iterator[tuple[tuple[Message, ...], Turn]]:
        """What `remember` was given, oldest first.

        Raises:
            InputError: the session was saved by a version that did not keep apart examples and questions.
        """
        if len(self.ends) != len(self.turns):
            raise InputError(
                "this session has examples and was saved by an older version, so its rounds cannot be told "
                "apart; it can only be gone on with as a whole"
            )
        start = 0
        for end, turn in zip(self.ends, self.turns, strict=True):
            yield tuple(self.messages[start : end - 1]), turn
            start = end

    def until(self, rounds: int) -> Self:
        """The state after the first so many rounds.

        Raises:
            InputError: as for `rounds`.
        """
        state = type(self)()
        for asked, turn in [*self.rounds()][:rounds]:
            state.remember(asked, turn)
        return state


def write_session(state: SessionState, folder: str | os.PathLike[str]) -> None:
    """Write a folder that `read_session` reads.

    Raises:
        InputError: the folder holds other things, or cannot be written.
    """
    target = Path(folder)
    ours = not target.exists() or _is_session(target / SESSION_FILE)
    if not ours and not (target.is_dir() and _is_empty(target)):
        raise InputError(f"{str(target)!r} is not a session's folder; name a new one")
    pictures = {one.id: one.pixels for one in state.pictures.values()}
    pictures |= {picture_id(image): image for message in state.messages for image in message.images}
    for name, pixels in pictures.items():
        place = target / PICTURES / f"{name}.png"
        if not place.is_file():  # its name says what is in it
            save_picture(pixels, place)
    data = {
        "format": FORMAT,
        "current": state.current,
        "shown": state.shown,
        "prompt_pictures": state.prompt_pictures,
        "ends": state.ends,
        "pictures": {one.id: one.name for one in state.pictures.values()},
        "messages": [message_to_data(message) for message in state.messages],
        "turns": [turn_to_data(turn) for turn in state.turns],
    }
    write_whole(target / SESSION_FILE, json.dumps(data).encode() + b"\n")


def read_session(folder: str | os.PathLike[str]) -> SessionState:
    """What `write_session` wrote.

    Raises:
        InputError: no such folder, another format, or a file that is missing or damaged.
    """
    target = Path(folder)
    path = target / SESSION_FILE
    try:
        data = json.loads(path.read_text())
        found = data["format"]
    except OSError as error:
        raise InputError(f"{str(target)!r} is not a session's folder: it has no {SESSION_FILE}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} is damaged: it is not the JSON of a session") from error
    if found != FORMAT:
        raise InputError(f"{str(path)!r} has format {found!r}, this version reads {FORMAT}")
    pixels = _Pixels(target / PICTURES)
    try:
        return SessionState(
            messages=[message_from_data(message, pixels) for message in data["messages"]],
            turns=[turn_from_data(turn, pixels) for turn in data["turns"]],
            pictures={name: picture_from(name, path, pixels) for name, path in data["pictures"].items()},
            current=str(data["current"]),
            shown=str(data["shown"]),
            prompt_pictures=[str(name) for name in data["prompt_pictures"]],
            ends=_ends(data),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{str(path)!r} is damaged: {type(error).__name__} {error}") from error


def _ends(data: Mapping[str, Any]) -> list[int]:
    """Earlier versions did not write them; without examples a round is a question and its reply."""
    if "ends" in data:
        return [int(end) for end in data["ends"]]
    messages = len(data["messages"])
    return list(range(2, messages + 1, 2)) if messages == 2 * len(data["turns"]) else []


def _is_session(path: Path) -> bool:
    """Whether a session was written there; other programs call their files `session.json` too."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and "format" in data and "turns" in data


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in it but the pictures of a session whose writing was cut off."""
    return all(path.name == PICTURES for path in folder.iterdir())


class _Pixels:
    """Pictures of a session's folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, ImageArray] = {}

    def __call__(self, name: str) -> ImageArray:
        if name not in self._read:
            found = read_picture(self._folder / f"{name}.png")
            if found.id != name:
                raise InputError(f"picture {str(self._folder / name)!r} is not the one that was saved")
            self._read[name] = found.pixels
        return self._read[name]
