"""Messages and turns as plain data and back, for folders and databases of sessions.

Pixels are elsewhere: pictures are called by their content hash. Numbers come back exactly as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from superlink.agents.pictures import SourcePicture, picture_id
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, Picture, Text
from superlink.decoders.contract import Failure
from superlink.decoders.rle import decode, encode
from superlink.router.errors import InputError
from superlink.router.messages import Box, ImageArray, Mask, Message, Point, Prompt, Scribble
from superlink.router.prompts import plain_prompt

PixelsOf = Callable[[str], ImageArray]  # by content hash

_ITEMS: dict[str, type[Boxes] | type[Masks] | type[Keypoints]] = {
    "boxes": Boxes,
    "masks": Masks,
    "keypoints": Keypoints,
}


def picture_from(name: str, path: str, pixels: PixelsOf) -> SourcePicture:
    """A picture by its content hash, and where it came from."""
    return SourcePicture(pixels=pixels(name), id=name, name=path)


def message_to_data(message: Message) -> dict[str, Any]:
    """Plain data of a message; its pictures are named, not kept."""
    return {
        "role": message.role,
        "text": message.text,
        "images": [picture_id(image) for image in message.images],
        "prompts": [_prompt_to_data(prompt) for prompt in message.prompts],
    }


def message_from_data(data: Mapping[str, Any], pixels: PixelsOf) -> Message:
    """What `message_to_data` wrote.

    Raises:
        InputError: a role or a kind of prompt that there is not.
    """
    if data["role"] not in ("system", "user", "assistant"):
        raise InputError(f"a message of a saved session has the role {data['role']!r}")
    return Message(
        role=data["role"],
        text=data["text"],
        images=tuple(pixels(name) for name in data["images"]),
        prompts=tuple(_prompt_from_data(prompt) for prompt in data["prompts"]),
    )


def _prompt_to_data(prompt: Prompt) -> dict[str, Any]:
    match plain_prompt(prompt):
        case Point() as plain:
            return {"point": [plain.x, plain.y]}
        case Box() as plain:
            return {"box": [plain.x0, plain.y0, plain.x1, plain.y1]}
        case Scribble() as plain:
            return {"scribble": [list(point) for point in plain.points]}
        case Mask() as plain:
            return {"mask": encode(plain.mask[None])[0]}


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


def turn_to_data(turn: Turn) -> dict[str, Any]:
    """Plain data of a turn; pictures are named, not kept."""
    return {
        "text": turn.text,
        "raw": turn.raw,
        "artifacts": [_artifact_to_data(artifact) for artifact in turn.artifacts],
        "failures": [asdict(failure) for failure in turn.failures],
        "image": None if turn.image is None else [turn.image.id, turn.image.name],
        "round": turn.round,
        "timings": dict(turn.timings),
        "cut": turn.cut,
        "error": turn.error,
    }


def turn_from_data(data: Mapping[str, Any], pixels: PixelsOf) -> Turn:
    """What `turn_to_data` wrote.

    Raises:
        InputError: a kind of artifact that there is not.
    """
    return Turn(
        text=data["text"],
        raw=data["raw"],
        artifacts=tuple(_artifact_from_data(artifact, pixels) for artifact in data["artifacts"]),
        failures=tuple(Failure(**failure) for failure in data["failures"]),
        image=None if data["image"] is None else picture_from(data["image"][0], data["image"][1], pixels),
        round=data["round"],
        timings=data["timings"],
        cut=data.get("cut", False),  # sessions of earlier versions do not say
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


def _artifact_from_data(data: Mapping[str, Any], pixels: PixelsOf) -> Artifact:
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
