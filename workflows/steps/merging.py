"""Several artifacts of one picture as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Origin
from superlink.router.errors import InputError
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.port_types import PortType

Items = Boxes | Masks | Keypoints


def nothing(kind: PortType, image: Image | None) -> Items:
    """An artifact of a kind without any items, of a picture if there is one."""
    size = (0, 0) if image is None else image.size
    rows: dict[str, Any] = {
        "xyxy": np.zeros((0, 4), np.float32),
        "scores": np.zeros(0, np.float32),
        "labels": np.zeros(0, np.int64),
        "names": (),
        "size": size,
        "origin": Origin(source="" if image is None else image.id),
    }
    if kind is Masks:
        return Masks(masks=np.zeros((0, *size), np.bool_), **rows)
    if kind is Keypoints:
        return Keypoints(xyv=np.zeros((0, 0, 3), np.float32), keypoint_names=(), **rows)
    return Boxes(**rows)


def merged(parts: Sequence[Items], iou: float | None = None) -> Items:
    """All items of several artifacts, best score first, without those that another one covers.

    Args:
        parts: of one kind and picture; at least one.
        iou: of two items of one name whose boxes overlap more, the better one stays; None keeps all.

    Raises:
        InputError: none, or of different kinds or pictures.
    """
    first = parts[0]
    for one in parts[1:]:
        if type(one) is not type(first):
            raise InputError(f"{type(first).__name__} and {type(one).__name__} cannot be merged into one")
        if tuple(one.size) != tuple(first.size):
            raise InputError(
                f"pictures of size {list(first.size)} and {list(one.size)} have no items in common; "
                f"map crops back with uncrop first"
            )
    names = tuple(dict.fromkeys(name for one in parts for name in one.names))
    labels = [
        np.asarray([names.index(name) for name in one.names], np.int64)[one.labels]
        if len(one)
        else np.zeros(0, np.int64)
        for one in parts
    ]
    rows: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in parts])
        for name in ("scores", "xyxy", "masks")
        if hasattr(first, name)
    }
    if isinstance(first, Keypoints):
        if any(isinstance(one, Keypoints) and one.keypoint_names != first.keypoint_names for one in parts):
            raise InputError("keypoints of different names cannot be merged into one")
        rows["xyv"] = np.concatenate([one.xyv for one in parts if isinstance(one, Keypoints)])
    origin = Origin(source=first.origin.source, decoder=first.origin.decoder)
    whole = replace(first, **rows, labels=np.concatenate(labels), names=names, origin=origin).sorted()
    return whole if iou is None else whole.select(_kept(whole.xyxy, whole.labels, iou))


def _kept(xyxy: NDArray[np.float32], labels: NDArray[np.int64], most: float) -> list[int]:
    """Greedy suppression: rows, best first, that overlap no better one of their name by more than `most`."""
    kept: list[int] = []
    area = np.prod(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0), axis=1)
    for row in range(len(xyxy)):
        others = np.asarray([k for k in kept if labels[k] == labels[row]], np.int64)
        low = np.maximum(xyxy[others, :2], xyxy[row, :2])
        high = np.minimum(xyxy[others, 2:], xyxy[row, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[others] + area[row] - shared
        if not np.any(shared > most * np.maximum(union, 1e-9)):
            kept.append(row)
    return kept
