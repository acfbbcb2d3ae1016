"""Artifacts to and from COCO's annotation format.

Boxes are x, y, width, height; masks are run lengths; scores ride along as `score`, so that the
same list is a results file for pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, tight_boxes
from superlink.decoders.rle import mask_of
from superlink.router.errors import InputError

Items = Boxes | Masks | Keypoints


def annotations_of(
    artifact: Items,
    *,
    image_id: int = 1,
    first_id: int = 1,
    category_ids: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """One annotation an item.

    Args:
        artifact: of one picture.
        image_id: the picture's id.
        first_id: id of the first annotation; pycocotools wants ids from 1.
        category_ids: category of every label; by default label + 1.
    """
    runs = artifact.rle() if isinstance(artifact, Masks) else None
    rows = []
    for row, (box, score, label) in enumerate(
        zip(artifact.xyxy.astype(np.float64), artifact.scores, artifact.labels, strict=True)
    ):
        x0, y0, x1, y1 = box.tolist()
        one: dict[str, Any] = {
            "id": first_id + row,
            "image_id": image_id,
            "category_id": int(label) + 1 if category_ids is None else category_ids[int(label)],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": 0,
            "score": float(score),
        }
        if isinstance(artifact, Masks) and runs is not None:
            one["segmentation"] = runs[row]
            one["area"] = float(artifact.masks[row].sum())
        if isinstance(artifact, Keypoints):
            one["keypoints"] = artifact.xyv[row].astype(np.float64).reshape(-1).tolist()
            one["num_keypoints"] = int((artifact.xyv[row, :, 2] > 0).sum())
        rows.append(one)
    return rows


def categories(names: Sequence[str], keypoint_names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A category for every name, with ids from 1, as `annotations_of` numbers them."""
    points = {"keypoints": list(keypoint_names), "skeleton": []} if keypoint_names else {}
    return [{"id": k + 1, "name": name, "supercategory": "", **points} for k, name in enumerate(names)]


def dataset(artifacts: Mapping[str, Items]) -> dict[str, Any]:
    """A whole COCO file: images, annotations, and the names of all pictures as categories.

    Args:
        artifacts: by the picture's file name.
    """
    names = tuple(dict.fromkeys(name for artifact in artifacts.values() for name in artifact.names))
    points: tuple[str, ...] = ()
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for image_id, (file_name, artifact) in enumerate(artifacts.items(), start=1):
        height, width = artifact.size
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        ids = [names.index(name) + 1 for name in artifact.names]
        rows += annotations_of(artifact, image_id=image_id, first_id=len(rows) + 1, category_ids=ids)
        if isinstance(artifact, Keypoints):
            points = artifact.keypoint_names
    return {"images": images, "annotations": rows, "categories": categories(names, points)}


def boxes_of(rows: Sequence[Mapping[str, Any]], *, names: Mapping[int, str], size: tuple[int, int]) -> Boxes:
    """Boxes of one picture's annotations.

    Args:
        rows: annotations with `bbox` and `category_id`; `score` is 1 where it is missing.
        names: name of every category id; they become `names` in this order.
        size: (height, width) of the picture.

    Raises:
        InputError: a key is missing or a category has no name.
    """
    xywh = np.asarray([_get(row, "bbox") for row in rows], np.float64).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return Boxes(xyxy=xyxy.astype(np.float32), **_shared(rows, names, size))


def masks_of(rows: Sequence[Mapping[str, Any]], *, names: Mapping[int, str], size: tuple[int, int]) -> Masks:
    """Masks of one picture's annotations; arguments as for `boxes_of`.

    Raises:
        InputError: as for `boxes_of`, or a `segmentation` that does not describe a mask.
    """
    masks = np.zeros((len(rows), *size), bool)
    for k, row in enumerate(rows):
        masks[k] = mask_of(_get(row, "segmentation"), size=size)
    return Masks(masks=masks, xyxy=tight_boxes(masks), **_shared(rows, names, size))


def keypoints_of(
    rows: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[int, str],
    keypoint_names: Sequence[str],
    size: tuple[int, int],
) -> Keypoints:
    """Keypoints of one picture's annotations; arguments as for `boxes_of`.

    Raises:
        InputError: as for `boxes_of`, or another number of points than `keypoint_names`.
    """
    for row in rows:
        found, expected = len(_get(row, "keypoints")), 3 * len(keypoint_names)
        if found != expected:
            raise InputError(f"{len(keypoint_names)} keypoints are {expected} numbers, got {found}")
    xyv = np.asarray([row["keypoints"] for row in rows], np.float32).reshape(-1, len(keypoint_names), 3)
    boxes = boxes_of(rows, names=names, size=size)
    return Keypoints(
        xyv=xyv,
        keypoint_names=tuple(keypoint_names),
        xyxy=boxes.xyxy,
        scores=boxes.scores,
        labels=boxes.labels,
        names=boxes.names,
        size=size,
    )


def _shared(
    rows: Sequence[Mapping[str, Any]], names: Mapping[int, str], size: tuple[int, int]
) -> dict[str, Any]:
    order = {category: label for label, category in enumerate(names)}
    for row in rows:
        if _get(row, "category_id") not in order:
            raise InputError(f"category {row['category_id']!r} has no name; known are {sorted(order)}")
    return {
        "scores": np.asarray([row.get("score", 1.0) for row in rows], np.float32),
        "labels": np.asarray([order[row["category_id"]] for row in rows], np.int64),
        "names": tuple(names.values()),
        "size": size,
    }


def _get(row: Mapping[str, Any], key: str) -> Any:
    if key not in row:
        raise InputError(f"annotation {row.get('id')!r} has no {key!r}")
    return row[key]
