"""COCO: `coco.json` with all pictures, as pycocotools reads it.

One annotation for every item of every artifact; masks are run lengths, scores ride along. Numbers have the
digits of all exports, see `superlink.decoders.export`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from superlink.decoders.coco import named, united
from superlink.decoders.export import COORDINATE_DIGITS, SCORE_DIGITS
from superlink.decoders.files import write_whole
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer


class CocoWriter(Writer):
    format = "coco"

    def _kept(self, item: Item) -> Mapping[str, Any]:
        rows = [_rounded(row) for artifact in item.found for row in named(artifact)]
        names = dict.fromkeys(name for artifact in item.found for name in artifact.names)
        return {"size": item.size, "names": list(names), "rows": rows}

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        images: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        names = dict.fromkeys(self.categories)
        for record in records:
            if record.head.error or record.body["size"] is None:
                continue
            height, width = record.body["size"]
            file_name = f"{record.head.stem}.png" if self._pictures else record.head.name
            images.append({"id": len(images) + 1, "file_name": file_name, "height": height, "width": width})
            names |= dict.fromkeys(record.body["names"])
            for row in record.body["rows"]:
                rows.append({**row, "id": len(rows) + 1, "image_id": len(images)})
        known = united(rows, list(names))
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
