"""YOLO: `labels/*.txt` in shares of the picture's sides, `images/*.png` and `data.yaml`, for Ultralytics.

A dataset has one task: "segment" where all that was found are masks, "pose" where all are keypoints, else
"detect", for which every item has a box. Named, it takes the items of that kind alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from superlink.decoders.artifacts import FloatArray, Keypoints, Masks
from superlink.decoders.files import write_whole
from superlink.decoders.polygons import TOLERANCE, joined, outlines
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer
from superlink.router.errors import InputError

Task = Literal["detect", "segment", "pose"]

_KINDS = {"masks": "segment", "keypoints": "pose"}
DIGITS = 6  # of shares; a thousandth of a pixel in a picture of 1000
PIXEL_DIGITS = 3  # of what they are shares of


class YoloWriter(Writer):
    format = "yolo"
    keeps_pictures = True

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        names: Sequence[str] = (),
        categories: Sequence[str] = (),
        pictures: bool | None = None,
        task: Task | None = None,
    ) -> None:
        """See `open_writer`; `task` is one of the three, or follows from what was found."""
        if task is not None and task not in get_args(Task):
            raise InputError(f"YOLO has the tasks {', '.join(get_args(Task))}, not {task!r}")
        super().__init__(folder, names=names, categories=categories, pictures=pictures)
        self._task = task

    def _kept(self, item: Item) -> Mapping[str, Any]:
        rows = []
        for artifact in item.found:
            height, width = artifact.size
            for row, (phrase, box) in enumerate(zip(artifact.phrases, artifact.xyxy, strict=True)):
                one: dict[str, Any] = {"label": phrase, "kind": type(artifact).__name__.lower()}
                one["box"] = _box(box, width, height)
                if isinstance(artifact, Masks):
                    parts = outlines(artifact.masks[row], tolerance=TOLERANCE)
                    ring = joined(parts) / (width, height) if parts else None
                    one["polygon"] = [] if ring is None else _rounded(ring.reshape(-1).tolist())
                if isinstance(artifact, Keypoints):
                    points = zip(artifact.keypoint_names, artifact.xyv[row].tolist(), strict=True)
                    one["points"] = {
                        name: [*_rounded([_pixel(x) / width, _pixel(y) / height]), round(v)]
                        if v > 0
                        else [0, 0, 0]
                        for name, (x, y, v) in points
                    }
                rows.append(one)
        names = dict.fromkeys(name for artifact in item.found for name in artifact.names)
        kinds = sorted({type(artifact).__name__.lower() for artifact in item.found if len(artifact)})
        return {"names": list(names), "kinds": kinds, "rows": rows}

    def _files(self, item: Item) -> Iterator[str]:
        yield from super()._files(item)
        yield f"labels/{item.head.stem}.txt"  # which `close` writes

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        kept = [record for record in records if not record.head.error]
        kinds = {kind for record in kept for kind in record.body["kinds"]}
        task = self._task or (_KINDS.get(next(iter(kinds)), "detect") if len(kinds) == 1 else "detect")
        names = dict.fromkeys((*self.categories, *(name for one in kept for name in one.body["names"])))
        order = {name: k for k, name in enumerate(names)}
        rows = [(one.head.stem, [row for row in one.body["rows"] if _fits(row, task)]) for one in kept]
        points = list(
            dict.fromkeys(name for _, found in rows for row in found for name in row.get("points", ()))
        )
        for stem, found in rows:
            lines = [_line(row, order[row["label"]], task, points) for row in found]
            write_whole(self.folder / "labels" / f"{stem}.txt", "".join(lines).encode())
        data: dict[str, Any] = {"train": "images", "val": "images", "names": dict(enumerate(names))}
        if task == "pose" and points:
            data |= {"kpt_shape": [len(points), 3], "flip_idx": mirrored(points)}
            data["kpt_names"] = {k: list(points) for k in range(len(names))}
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        return [write_whole(self.folder / "data.yaml", text.encode()), self.folder / "labels"]


def mirrored(points: Sequence[str]) -> list[int]:
    """Which keypoint each one becomes in a mirrored picture, by "left" and "right" in the names."""
    places = {name: k for k, name in enumerate(points)}
    turned = (name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in points)
    return [places.get(name, k) for k, name in enumerate(turned)]


def _fits(row: Mapping[str, Any], task: str) -> bool:
    return task == "detect" or (_KINDS.get(row["kind"]) == task and row.get("polygon") != [])


def _line(row: Mapping[str, Any], label: int, task: str, points: Sequence[str]) -> str:
    if task == "segment":
        values = row["polygon"]
    else:
        values = row["box"]
        if task == "pose":
            values = [*values, *(value for name in points for value in row["points"].get(name, (0, 0, 0)))]
    return " ".join([str(label), *(f"{value:.{DIGITS}f}".rstrip("0").rstrip(".") for value in values)]) + "\n"


def _box(box: FloatArray, width: int, height: int) -> list[float]:
    """Centre and sides, as shares."""
    x0, y0, x1, y1 = map(_pixel, box.tolist())
    return _rounded([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height])


def _pixel(value: float) -> float:
    """A coordinate without the noise of processors, which shares of small pictures would show."""
    return round(value, PIXEL_DIGITS)


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]
