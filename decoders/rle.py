"""Masks as COCO run lengths, and every way in which COCO files write a mask down.

Run lengths count pixels column by column, starting with those outside the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from superlink.decoders.artifacts import BoolArray
from superlink.router.errors import InputError


class Rle(TypedDict):
    """One mask, as pycocotools reads it from JSON."""

    size: list[int]  # [height, width]
    counts: str  # compressed


def encode(masks: BoolArray) -> list[Rle]:
    """Compress masks.

    Args:
        masks: (N, H, W).
    """
    from pycocotools import mask as coco_mask

    if len(masks) == 0:
        return []
    columns = np.asfortranarray(np.moveaxis(masks, 0, -1).astype(np.uint8))
    return [
        Rle(size=[int(side) for side in one["size"]], counts=one["counts"].decode("ascii"))
        for one in coco_mask.encode(columns)
    ]


def decode(rles: Sequence[Rle], *, size: tuple[int, int]) -> BoolArray:
    """Masks of one picture.

    Args:
        rles: N run lengths.
        size: (height, width) that each must have.

    Returns:
        (N, H, W).

    Raises:
        InputError: the size differs, or the counts do not fill the picture.
    """
    if not rles:
        return np.zeros((0, *size), bool)
    return np.stack([mask_of(dict(rle), size=size) for rle in rles])


def mask_of(segmentation: Any, *, size: tuple[int, int]) -> BoolArray:
    """The mask that a COCO `segmentation` field describes.

    Args:
        segmentation: polygons ([[x0, y0, x1, y1, ...], ...]), or run lengths with plain or
            compressed counts ({"size": [h, w], "counts": [...] or "..."}).
        size: (height, width) of the picture.

    Returns:
        (H, W).

    Raises:
        InputError: none of these forms, or it does not fit the picture.
    """
    if isinstance(segmentation, list):
        return _polygons(segmentation, size)
    if isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys():
        return _runs(segmentation["size"], segmentation["counts"], size)
    raise InputError(f"a mask is a list of polygons or run lengths, got {type(segmentation).__name__}")


def _polygons(polygons: list[Any], size: tuple[int, int]) -> BoolArray:
    from pycocotools import mask as coco_mask

    if not polygons:
        raise InputError("a mask of polygons needs at least one polygon, got none")
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(value, int | float) and np.isfinite(value) for value in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise InputError("a polygon is a list of at least three x, y pairs of numbers")
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return _runs(merged["size"], merged["counts"], size)


def _runs(stated: Any, counts: Any, size: tuple[int, int]) -> BoolArray:
    if not isinstance(stated, list | tuple) or tuple(stated) != tuple(size):
        raise InputError(f"run lengths are of a picture of size {stated}, this picture is {list(size)}")
    pixels = size[0] * size[1]
    if isinstance(counts, str | bytes):
        counts = _uncompressed(counts if isinstance(counts, str) else counts.decode("ascii", "replace"))
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        raise InputError("run lengths are non-negative whole numbers or a compressed string")
    if sum(counts) != pixels:
        raise InputError(f"run lengths cover {sum(counts)} pixels, the picture has {pixels}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(size, order="F")


def _uncompressed(text: str) -> list[int]:
    """Run lengths out of COCO's string form, so that a damaged one is an error, not a crash.

    Each number is written in groups of five bits, least first, offset by 48; bit 6 says that
    more follow, the last group's bit 5 is the sign; from the third run on, the number is the
    difference to the run before the previous one. Source: the format of pycocotools' maskApi.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise InputError(f"compressed run lengths cannot contain {character!r}")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        value = shift = 0
    if shift:
        raise InputError("compressed run lengths end in the middle of a number")
    return runs
