"""FiftyOne: a dataset that its app shows, for whoever has it installed.

Every artifact is a field called by its id, such as `boxes_1`; pictures lie in `images/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from superlink.decoders.artifacts import Keypoints, Masks
from superlink.decoders.coco import Items
from superlink.decoders.rle import encode, mask_of
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer
from superlink.router.errors import InputError


class FiftyOneWriter(Writer):
    format = "fiftyone"
    keeps_pictures = True

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        names: Sequence[str] = (),
        categories: Sequence[str] = (),
        pictures: bool | None = None,
        dataset: str = "",
    ) -> None:
        """See `open_writer`; `dataset` is FiftyOne's name for it, by default that of the folder."""
        self._fiftyone = import_fiftyone()
        super().__init__(folder, names=names, categories=categories, pictures=pictures)
        if not self._pictures:
            raise InputError("a FiftyOne dataset shows pictures; leave pictures= out")
        self._dataset = dataset or self.folder.resolve().name

    def _kept(self, item: Item) -> Mapping[str, Any]:
        return {one.origin.id: _labels(one) for one in item.found}

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        fo = self._fiftyone
        samples = []
        for record in records:
            if record.head.error:
                continue
            path = self.folder / self.picture_folder / f"{record.head.stem}.png"
            sample = fo.Sample(filepath=str(path.resolve()))
            for name, rows in record.body.items():
                sample[re.sub(r"\W", "_", name)] = _field(fo, rows)
            samples.append(sample)
        dataset = fo.Dataset(self._dataset, persistent=True, overwrite=True)
        dataset.add_samples(samples)
        return []


def import_fiftyone() -> Any:
    """The FiftyOne library, which this project does not require.

    Raises:
        InputError: it is not installed.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise InputError("the format 'fiftyone' needs FiftyOne: pip install fiftyone") from error
    return fiftyone


def _labels(artifact: Items) -> list[dict[str, Any]]:
    """Rows in FiftyOne's frame: left, top, width and height as shares; a mask covers its box alone."""
    height, width = artifact.size
    rows = []
    for row, (phrase, score) in enumerate(zip(artifact.phrases, artifact.scores.tolist(), strict=True)):
        x0, y0, x1, y1 = artifact.xyxy[row].tolist()
        one: dict[str, Any] = {"label": phrase, "confidence": score}
        if isinstance(artifact, Keypoints):
            points = artifact.xyv[row].tolist()
            one["points"] = [[x / width, y / height] if v > 0 else None for x, y, v in points]
        else:
            one["bounding_box"] = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        if isinstance(artifact, Masks):
            inside = artifact.masks[row, int(y0) : int(y1), int(x0) : int(x1)]
            one["mask"] = encode(np.ascontiguousarray(inside)[None])[0] if inside.size else None
        rows.append(one)
    return rows


def _field(fo: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    if any("points" in row for row in rows):
        unseen = (float("nan"), float("nan"))
        return fo.Keypoints(
            keypoints=[
                fo.Keypoint(
                    label=row["label"], points=[tuple(one) if one else unseen for one in row["points"]]
                )
                for row in rows
            ]
        )
    found = []
    for row in rows:
        own = {name: row[name] for name in ("label", "bounding_box", "confidence")}
        if row.get("mask"):
            own["mask"] = mask_of(row["mask"], size=tuple(row["mask"]["size"]))
        found.append(fo.Detection(**own))
    return fo.Detections(detections=found)
