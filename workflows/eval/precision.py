"""Average precision through pycocotools, on artifacts."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superlink.decoders.artifacts import Boxes, Masks
from superlink.decoders.coco import Items, annotations_of, categories


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """COCO's averages over the classes that occur; 0 where nothing was to be found."""

    ap: float  # IoU 0.50 to 0.95
    ap50: float
    ap75: float
    truths: int


def average_precision(truths: Sequence[Boxes | Masks], found: Sequence[Boxes | Masks]) -> Precision:
    """COCO average precision; classes are the names, whatever their order in each artifact.

    Args:
        truths: what there is, one artifact a picture; names without items are classes to be absent.
        found: what was found, for the same pictures. Names that no truth has are no class.

    Raises:
        ValueError: another number of pictures was found than there is.
    """
    if len(truths) != len(found):
        raise ValueError(f"{len(truths)} pictures have truths but {len(found)} have findings")
    counted = PrecisionCount()
    for truth, one in zip(truths, found, strict=True):
        counted.add(truth, one)
    return counted.precision()


class PrecisionCount:
    """What `average_precision` is counted from, picture by picture.

    Masks are kept as run lengths: the arrays of some hundred photographs would fill the memory.
    """

    def __init__(self) -> None:
        self._kind = "bbox"
        self._sizes: list[tuple[int, int]] = []
        self._names: set[str] = set()
        self._truths: list[tuple[str, dict[str, Any]]] = []  # names and rows, crowds among them
        self._found: list[tuple[str, dict[str, Any]]] = []

    def add(self, truth: Boxes | Masks, found: Boxes | Masks, groups: Boxes | Masks | None = None) -> None:
        """One more picture: what there is, what was found, and crowds, in which it does not count."""
        if isinstance(truth, Masks):
            self._kind = "segm"
        self._sizes.append(truth.size)
        self._names.update(truth.names)
        number = len(self._sizes)
        self._truths += zip(truth.phrases, annotations_of(truth, image_id=number), strict=True)
        if groups is not None:
            crowds = annotations_of(groups, image_id=number)
            self._truths += zip(groups.phrases, [{**one, "iscrowd": 1} for one in crowds], strict=True)
        self._found += zip(found.phrases, annotations_of(found, image_id=number), strict=True)

    def precision(self) -> Precision:
        """Of all pictures so far."""
        names = tuple(sorted(self._names))
        numbers = {name: number for number, name in enumerate(names, start=1)}

        def rows(named: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
            return [{**row, "category_id": numbers[name]} for name, row in named if name in numbers]

        truths, found = rows(self._truths), rows(self._found)
        objects = sum(not row["iscrowd"] for row in truths)
        if not objects or not found:
            return Precision(ap=0.0, ap50=0.0, ap75=0.0, truths=objects)
        stats = coco_stats(self._sizes, names, truths, found, self._kind)
        return Precision(ap=stats[0], ap50=stats[1], ap75=stats[2], truths=objects)


def class_names(truths: Sequence[Items]) -> tuple[str, ...]:
    """The names of all truths, sorted: class k has category k + 1."""
    return tuple(sorted({name for truth in truths for name in truth.names}))


def rows_of(artifact: Items, names: tuple[str, ...], image_id: int) -> list[dict[str, Any]]:
    """COCO annotations of the items whose name is one of `names`."""
    ids = [names.index(name) + 1 if name in names else 0 for name in artifact.names]
    rows = annotations_of(artifact, image_id=image_id, category_ids=ids)
    return [row for row in rows if row["category_id"] > 0]


def coco_stats(
    sizes: Sequence[tuple[int, int]],
    names: tuple[str, ...],
    rows: list[dict[str, Any]],
    results: list[dict[str, Any]],
    kind: str,
    *,
    keypoint_constants: NDArray[np.float64] | None = None,
) -> list[float]:
    """AP, AP50 and AP75 by pycocotools; 0 in place of its -1 where nothing is there.

    Args:
        sizes: (height, width) of the pictures, which have ids from 1.
        names: of the classes.
        rows: annotations of the truths.
        results: annotations of what was found.
        kind: "bbox", "segm" or "keypoints".
        keypoint_constants: for "keypoints", the standard deviation of every keypoint.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = [
        {"id": number, "height": height, "width": width}
        for number, (height, width) in enumerate(sizes, start=1)
    ]
    numbered = [{**row, "id": number} for number, row in enumerate(rows, start=1)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {"images": images, "annotations": numbered, "categories": categories(names)}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        if keypoint_constants is not None:
            evaluation.params.kpt_oks_sigmas = keypoint_constants
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [max(0.0, float(value)) for value in evaluation.stats[:3]]
