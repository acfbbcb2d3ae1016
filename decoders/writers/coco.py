"""COCO: `coco.json` with all pictures, as pycocotools reads it.

One annotation for every item of every artifact; masks are run lengths, scores ride along. Numbers have the
digits of all exports, see `superlink.decoders.export`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from superlink.decoders.artifacts import Keypoints
from superlink.decoders.coco import annotations_of, categories
from superlink.decoders.export import COORDINATE_DIGITS, SCORE_DIGITS
from superlink.decoders.files import write_whole
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer


class CocoWriter(Writer):
    format = "coco"

    def _kept(self, item: Item) -> Mapping[str, Any]:
        rows = []
        for artifact in item.found:
            points = list(artifact.keypoint_names) if isinstance(artifact, Keypoints) else None
            for row, phrase in zip(annotations_of(artifact), artifact.phrases, strict=True):
                rows.append({**_rounded(row), "category": phrase, "points": points})
        names = dict.fromkeys(name for artifact in item.found for name in artifact.names)
        return {"size": item.size, "names": list(names), "rows": rows}

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        images: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        names = dict.fromkeys(self.categories)
        points: dict[str, dict[str, None]] = {}  # all keypoints of a category, in the order they came
        for record in records:
            if record.head.error or record.body["size"] is None:
                continue
            height, width = record.body["size"]
            file_name = f"{record.head.stem}.png" if self._pictures else record.head.name
            images.append({"id": len(images) + 1, "file_name": file_name, "height": height, "width": width})
            names |= dict.fromkeys(record.body["names"])
            for row in record.body["rows"]:
                points.setdefault(row["category"], {}).update(dict.fromkeys(row["points"] or ()))
                rows.append({**row, "id": len(rows) + 1, "image_id": len(images)})
        order = {name: k + 1 for k, name in enumerate(names)}
        for row in rows:
            category = row.pop("category")
            row["category_id"] = order[category]
            own = row.pop("points")
            if own is not None:
                row["keypoints"] = _placed(row["keypoints"], own, list(points[category]))
        known = categories(list(names))
        for one in known:
            if points.get(one["name"]):
                one |= {"keypoints": list(points[one["name"]]), "skeleton": []}
        data = {
            "info": {"description": "written by superlink"},
            "licenses": [],
            "images": images,
            "annotations": rows,
            "categories": known,
        }
        return [write_whole(self.folder / "coco.json", json.dumps(data).encode() + b"\n")]


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """An annotation without digits that no decoder can tell."""
    shorter = dict(row)
    for key in ("bbox", "keypoints"):
        if key in row:
            shorter[key] = [round(float(value), COORDINATE_DIGITS) for value in row[key]]
    if "area" in row:
        shorter["area"] = round(float(row["area"]), COORDINATE_DIGITS)
    if "score" in row:
        shorter["score"] = round(float(row["score"]), SCORE_DIGITS)
    return shorter


def _placed(values: Sequence[float], own: Sequence[str], wanted: Sequence[str]) -> list[float]:
    """Keypoints in the order of their category; those that were not asked for are not labelled."""
    triples = {name: values[3 * k : 3 * k + 3] for k, name in enumerate(own)}
    return [value for name in wanted for value in triples.get(name, (0.0, 0.0, 0.0))]
