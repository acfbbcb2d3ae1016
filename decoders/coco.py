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

    A category has the keypoints of its own annotations, see `united`.

    Args:
        artifacts: by the picture's file name.
    """
    names = tuple(dict.fromkeys(name for artifact in artifacts.values() for name in artifact.names))
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for image_id, (file_name, artifact) in enumerate(artifacts.items(), start=1):
        height, width = artifact.size
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        rows += named(artifact, image_id=image_id, first_id=len(rows) + 1)
    return {"images": images, "annotations": rows, "categories": united(rows, names)}


def named(artifact: Items, *, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
    """`annotations_of` for `united`: with names of the category (`category`) and the keypoints (`points`)."""
    points = list(artifact.keypoint_names) if isinstance(artifact, Keypoints) else None
    rows = annotations_of(artifact, image_id=image_id, first_id=first_id)
    return [
        {**row, "category": name, "points": points} for row, name in zip(rows, artifact.phrases, strict=True)
    ]


def united(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The categories of annotations from several artifacts, which may know other names and keypoints.

    A category has all keypoints of its own annotations, in the order they came; those that an annotation
    was not asked for are not labelled in it.

    Args:
        rows: of `named`; ids of categories and the order of keypoints become those of the whole, in place.
        names: of all categories.
    """
    known = categories(names)
    points: dict[str, dict[str, None]] = {}
    for row in rows:
        points.setdefault(row["category"], {}).update(dict.fromkeys(row["points"] or ()))
    order = {name: k + 1 for k, name in enumerate(names)}
    for row in rows:
        category, own = row.pop("category"), row.pop("points")
        row["category_id"] = order[category]
        if own is not None:
            row["keypoints"] = _placed(row["keypoints"], own, list(points[category]))
    for one in known:
        if points.get(one["name"]):
            one |= {"keypoints": list(points[one["name"]]), "skeleton": []}
    return known


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
    numbers = np.asarray([row["keypoints"] for row in rows], np.float32)
    # Not -1: without names there are no numbers that could tell how many rows there are.
    xyv = numbers.reshape(len(rows), len(keypoint_names), 3)
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


def _placed(values: Sequence[float], own: Sequence[str], wanted: Sequence[str]) -> list[float]:
    """Keypoints in the order of their category; those that were not asked for are not labelled."""
    triples = {name: values[3 * k : 3 * k + 3] for k, name in enumerate(own)}
    return [value for name in wanted for value in triples.get(name, (0.0, 0.0, 0.0))]


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
