"""Artifacts to and from the types of the supervision library.

`names` and `size` travel in `metadata` of Detections, so a round trip loses only the origin;
for objects made elsewhere pass them. KeyPoints have no metadata, so for those `names`, `size`
and the keypoints' names are always passed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, tight_boxes
from superlink.router.errors import InputError

if TYPE_CHECKING:
    import supervision

Labels = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def import_supervision() -> Any:
    """The supervision library, without its advice to install OpenCV: numpy does for drawings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OpenCV", category=UserWarning)
        import supervision
    return supervision


def to_supervision(artifact: Boxes | Masks | Keypoints) -> Any:
    """`supervision.KeyPoints` of keypoints, `supervision.Detections` of the others."""
    supervision = import_supervision()
    class_names = np.asarray(artifact.phrases, dtype=str)
    if isinstance(artifact, Keypoints):
        visibility = artifact.xyv[..., 2]
        return supervision.KeyPoints(
            xy=artifact.xyv[..., :2].copy(),
            class_id=artifact.labels.astype(int),
            keypoint_confidence=(visibility / 2).astype(np.float32),
            detection_confidence=artifact.scores.copy(),
            visible=visibility > 0,
            data={"class_name": class_names},
        )
    return supervision.Detections(
        xyxy=artifact.xyxy.copy(),
        mask=artifact.masks.copy() if isinstance(artifact, Masks) else None,
        confidence=artifact.scores.copy(),
        class_id=artifact.labels.astype(int),
        data={"class_name": class_names},
        metadata={"names": list(artifact.names), "size": list(artifact.size)},
    )


def from_detections(
    detections: supervision.Detections,
    *,
    size: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
) -> Boxes | Masks:
    """Masks where the detections have masks, else boxes.

    Args:
        detections: of one picture.
        size: (height, width); needed for detections that were made elsewhere.
        names: the name of every class id; by default those of `metadata` or `class_name`.

    Raises:
        InputError: the size is not known, or a class id has no name.
    """
    size = size or detections.metadata.get("size")
    if size is None:
        raise InputError("supervision's detections do not know the picture's size; pass size=(height, width)")
    rows = len(detections)
    labels = np.zeros(rows, np.int64) if detections.class_id is None else detections.class_id.astype(np.int64)
    names, labels = _names(
        names or detections.metadata.get("names"), detections.data.get("class_name"), labels
    )
    shared: dict[str, Any] = {
        "scores": _scores(detections.confidence, rows),
        "labels": labels,
        "names": tuple(names),
        "size": (int(size[0]), int(size[1])),
    }
    if detections.mask is None:
        return Boxes(xyxy=np.asarray(detections.xyxy, np.float32).reshape(-1, 4), **shared)
    masks = np.asarray(detections.mask, bool).reshape(-1, *shared["size"])
    return Masks(masks=masks, xyxy=tight_boxes(masks), **shared)


def from_keypoints(
    keypoints: supervision.KeyPoints,
    *,
    size: tuple[int, int],
    keypoint_names: Sequence[str],
    names: Sequence[str] | None = None,
) -> Keypoints:
    """Named keypoints; each box is the one around the labelled points.

    Args:
        keypoints: of one picture.
        size: (height, width).
        keypoint_names: one for each point of an instance.
        names: the name of every class id; by default those of `class_name`.

    Raises:
        InputError: another number of points than names, or a class id has no name.
    """
    rows, points = len(keypoints), len(keypoint_names)
    xy = np.asarray(keypoints.xy, np.float32)
    if rows == 0:
        xy = xy.reshape(0, points, 2)
    if xy.shape[1] != points:
        raise InputError(f"{points} keypoint names for instances of {xy.shape[1]} points")
    labels = np.zeros(rows, np.int64) if keypoints.class_id is None else keypoints.class_id.astype(np.int64)
    names, labels = _names(names, keypoints.data.get("class_name"), labels)
    visibility = np.full((rows, points), 2.0, np.float32)
    if keypoints.keypoint_confidence is not None:
        visibility = np.ceil(np.asarray(keypoints.keypoint_confidence, np.float32).reshape(rows, points) * 2)
    if keypoints.visible is not None:
        visibility[~np.asarray(keypoints.visible, bool).reshape(rows, points)] = 0.0
    return Keypoints(
        xyv=np.concatenate([xy, visibility[..., None]], axis=-1),
        keypoint_names=tuple(keypoint_names),
        xyxy=_around(xy, visibility > 0),
        scores=_scores(keypoints.detection_confidence, rows),
        labels=labels,
        names=tuple(names),
        size=size,
    )


def _names(names: Sequence[str] | None, class_names: Any, labels: Labels) -> tuple[Sequence[str], Labels]:
    """Names by class id; without any, the distinct class names with ids of their own."""
    if names is None:
        if class_names is None:
            if len(labels):
                raise InputError("the detections have class ids without names; pass names=[...]")
            return (), labels
        spoken = [str(name) for name in class_names]
        names = tuple(dict.fromkeys(spoken))
        return names, np.asarray([names.index(name) for name in spoken], np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise InputError(f"class ids are {labels.min()} to {labels.max()}, but there are {len(names)} names")
    return names, labels


def _scores(confidence: Any, rows: int) -> Floats:
    return np.ones(rows, np.float32) if confidence is None else np.asarray(confidence, np.float32)


def _around(xy: Floats, labelled: Flags) -> Floats:
    boxes = np.zeros((len(xy), 4), np.float32)
    for row, (points, known) in enumerate(zip(xy, labelled, strict=True)):
        if known.any():
            boxes[row] = *points[known].min(0), *points[known].max(0)
    return boxes
