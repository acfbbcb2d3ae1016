"""Artifacts as plain JSON data and back: the form that `superlink ask --json` prints.

Coordinates are rounded to 0.01 px and scores to 0.0001, finer than any decoder can tell;
masks are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, Picture, Text, tight_boxes
from superlink.decoders.rle import decode
from superlink.router.errors import InputError

COORDINATE_DIGITS = 2
SCORE_DIGITS = 4


def to_json(artifact: Artifact, *, path: str | None = None) -> dict[str, Any]:
    """Plain data of one artifact.

    Args:
        artifact: what to write down.
        path: of a picture, where its file is, None where it was not written; pixels are never part of JSON.
    """
    head: dict[str, Any] = {"id": artifact.origin.id, "type": type(artifact).__name__.lower()}
    head["decoder"] = artifact.origin.decoder
    if isinstance(artifact, Text):
        return {**head, "text": artifact.text}
    if isinstance(artifact, Picture):
        return {**head, "path": path, "size": [int(side) for side in artifact.pixels.shape[:2]]}
    body: dict[str, Any] = {
        **head,
        "labels": list(artifact.phrases),
        "scores": _rounded(artifact.scores, SCORE_DIGITS),
    }
    match artifact:
        case Masks():
            body["rle"] = artifact.rle()
        case Keypoints():
            body["names"] = list(artifact.keypoint_names)
            body["xyv"] = _rounded(artifact.xyv, COORDINATE_DIGITS)
            body["xyxy"] = _rounded(artifact.xyxy, COORDINATE_DIGITS)
        case Boxes():
            body["xyxy"] = _rounded(artifact.xyxy, COORDINATE_DIGITS)
    return body


def from_json(data: Mapping[str, Any], *, size: tuple[int, int]) -> Boxes | Masks | Keypoints | Text:
    """What `to_json` wrote, as an artifact.

    Names that were asked for but not found are not part of the JSON and do not come back.

    Args:
        data: an object of the `artifacts` list.
        size: (height, width) of the picture that it speaks of.

    Raises:
        InputError: not such an object, or a picture, whose pixels are in a file.
    """
    origin = Origin(id=data.get("id", ""), decoder=data.get("decoder", ""))
    kind = data.get("type")
    try:
        if kind == "text":
            return Text(text=data["text"], origin=origin)
        if kind not in ("boxes", "masks", "keypoints"):
            raise InputError(f"boxes, masks, keypoints or text can be read from JSON, got type {kind!r}")
        names = tuple(dict.fromkeys(data["labels"]))
        shared: dict[str, Any] = {
            "scores": np.asarray(data["scores"], np.float32).reshape(-1),
            "labels": np.asarray([names.index(label) for label in data["labels"]], np.int64),
            "names": names,
            "size": size,
            "origin": origin,
        }
        if kind == "masks":
            masks = decode(data["rle"], size=size)
            return Masks(masks=masks, xyxy=tight_boxes(masks), **shared)
        shared["xyxy"] = np.asarray(data["xyxy"], np.float32).reshape(-1, 4)
        if kind == "boxes":
            return Boxes(**shared)
        points = tuple(data["names"])
        # Not -1: without names there are no numbers that could tell how many items there are.
        xyv = np.asarray(data["xyv"], np.float32).reshape(len(data["xyv"]), len(points), 3)
        return Keypoints(xyv=xyv, keypoint_names=points, **shared)
    except KeyError as error:
        raise InputError(f"JSON of {kind} needs the key {error.args[0]!r}") from error


def _rounded(array: np.ndarray[Any, Any], digits: int) -> Any:
    # Through float64: a rounded float32 would print as 12.300000190734863.
    return np.round(array.astype(np.float64), digits).tolist()
