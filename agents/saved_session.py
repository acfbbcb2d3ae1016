"""What a session remembers, and its folder.

    session.json        everything but pixels; written last, it makes the folder complete
    pictures/<id>.png   every picture that was shown or made, by its content hash

Numbers come back exactly as they were, so refs of a session that was loaded give what they gave before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from superlink.agents.pictures import SourcePicture, picture_id, read_picture
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, Picture, Text
from superlink.decoders.contract import Failure
from superlink.decoders.files import write_whole
from superlink.decoders.png import save_picture
from superlink.decoders.rle import decode, encode
from superlink.router.errors import InputError
from superlink.router.messages import Box, ImageArray, Mask, Message, Point, Prompt, Scribble

FORMAT = 1
SESSION_FILE = "session.json"
PICTURES = "pictures"

_ITEMS: dict[str, type[Boxes] | type[Masks] | type[Keypoints]] = {
    "boxes": Boxes,
    "masks": Masks,
    "keypoints": Keypoints,
}


@dataclass(slots=True, kw_only=True, eq=False)
class SessionState:
    """Everything that later rounds build on."""

    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    pictures: dict[str, SourcePicture] = field(default_factory=dict)  # shown or made, by content hash
    current: str = ""  # id of the picture that the next question is about
    shown: str = ""  # id of the picture that the conversation showed last
    prompt_pictures: list[str] = field(default_factory=list)  # of each prompt so far, where it lies


def write_session(state: SessionState, folder: str | os.PathLike[str]) -> None:
    """Write a folder that `read_session` reads.

    Raises:
        InputError: the folder holds other things, or cannot be written.
    """
    target = Path(folder)
    ours = not target.exists() or (target / SESSION_FILE).is_file()
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
        "pictures": {one.id: one.name for one in state.pictures.values()},
        "messages": [_message_to_data(message) for message in state.messages],
        "turns": [_turn_to_data(turn) for turn in state.turns],
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
            messages=[_message_from_data(message, pixels) for message in data["messages"]],
            turns=[_turn_from_data(turn, pixels) for turn in data["turns"]],
            pictures={name: pixels.picture(name, path) for name, path in data["pictures"].items()},
            current=str(data["current"]),
            shown=str(data["shown"]),
            prompt_pictures=[str(name) for name in data["prompt_pictures"]],
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{str(path)!r} is damaged: {type(error).__name__} {error}") from error


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

    def picture(self, name: str, path: str) -> SourcePicture:
        return SourcePicture(pixels=self(name), id=name, name=path)


def _message_to_data(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "text": message.text,
        "images": [picture_id(image) for image in message.images],
        "prompts": [_prompt_to_data(prompt) for prompt in message.prompts],
    }


def _message_from_data(data: Mapping[str, Any], pixels: _Pixels) -> Message:
    if data["role"] not in ("system", "user", "assistant"):
        raise InputError(f"a message of a saved session has the role {data['role']!r}")
    return Message(
        role=data["role"],
        text=data["text"],
        images=tuple(pixels(name) for name in data["images"]),
        prompts=tuple(_prompt_from_data(prompt) for prompt in data["prompts"]),
    )


def _prompt_to_data(prompt: Prompt) -> dict[str, Any]:
    match prompt:
        case Point():
            return {"point": [prompt.x, prompt.y]}
        case Box():
            return {"box": [prompt.x0, prompt.y0, prompt.x1, prompt.y1]}
        case Scribble():
            return {"scribble": [list(point) for point in prompt.points]}
        case Mask():
            return {"mask": encode(prompt.mask[None])[0]}


def _prompt_from_data(data: Mapping[str, Any]) -> Prompt:
    ((kind, value),) = data.items()
    if kind == "point":
        return Point(*value)
    if kind == "box":
        return Box(*value)
    if kind == "scribble":
        return Scribble(tuple((x, y) for x, y in value))
    if kind == "mask":
        return Mask(decode([value], size=tuple(value["size"]))[0])
    raise InputError(f"a message of a saved session has a prompt of kind {kind!r}")


def _turn_to_data(turn: Turn) -> dict[str, Any]:
    return {
        "text": turn.text,
        "raw": turn.raw,
        "artifacts": [_artifact_to_data(artifact) for artifact in turn.artifacts],
        "failures": [asdict(failure) for failure in turn.failures],
        "image": None if turn.image is None else [turn.image.id, turn.image.name],
        "round": turn.round,
        "timings": dict(turn.timings),
        "error": turn.error,
    }


def _turn_from_data(data: Mapping[str, Any], pixels: _Pixels) -> Turn:
    return Turn(
        text=data["text"],
        raw=data["raw"],
        artifacts=tuple(_artifact_from_data(artifact, pixels) for artifact in data["artifacts"]),
        failures=tuple(Failure(**failure) for failure in data["failures"]),
        image=None if data["image"] is None else pixels.picture(*data["image"]),
        round=data["round"],
        timings=data["timings"],
        error=data["error"],
    )


def _artifact_to_data(artifact: Artifact) -> dict[str, Any]:
    head = {"type": type(artifact).__name__.lower(), "origin": asdict(artifact.origin)}
    if isinstance(artifact, Text):
        return {**head, "text": artifact.text}
    if isinstance(artifact, Picture):
        return {**head, "pixels": picture_id(artifact.pixels)}
    body: dict[str, Any] = {
        **head,
        # A float32 is a float64 without loss, and JSON keeps those.
        "xyxy": artifact.xyxy.tolist(),
        "scores": artifact.scores.tolist(),
        "labels": artifact.labels.tolist(),
        "names": list(artifact.names),
        "size": list(artifact.size),
    }
    if isinstance(artifact, Masks):
        body["rle"] = artifact.rle()
    if isinstance(artifact, Keypoints):
        body |= {"xyv": artifact.xyv.tolist(), "keypoint_names": list(artifact.keypoint_names)}
    return body


def _artifact_from_data(data: Mapping[str, Any], pixels: _Pixels) -> Artifact:
    origin, kind = Origin(**data["origin"]), data["type"]
    if kind == "text":
        return Text(text=data["text"], origin=origin)
    if kind == "picture":
        return Picture(pixels=pixels(data["pixels"]), origin=origin)
    if kind not in _ITEMS:
        raise InputError(f"a saved session has an artifact of type {kind!r}")
    size: tuple[int, int] = (data["size"][0], data["size"][1])
    own: dict[str, Any] = {}
    if kind == "masks":
        own["masks"] = decode(data["rle"], size=size)
    if kind == "keypoints":
        own["keypoint_names"] = tuple(data["keypoint_names"])
        own["xyv"] = _floats(data["xyv"], len(own["keypoint_names"]), 3)
    return _ITEMS[kind](
        **own,
        xyxy=_floats(data["xyxy"], 4),
        scores=_floats(data["scores"]),
        labels=np.asarray(data["labels"], np.int64).reshape(-1),
        names=tuple(data["names"]),
        size=size,
        origin=origin,
    )


def _floats(values: Sequence[Any], *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N, *shape); also where there are no rows, whose shape JSON does not keep."""
    return np.asarray(values, np.float32).reshape(len(values), *shape)
