"""JSONL and CSV: results as lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from superlink.decoders.artifacts import Keypoints, Masks
from superlink.decoders.export import COORDINATE_DIGITS, SCORE_DIGITS, to_json
from superlink.decoders.files import write_whole
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer, made_places, save_made


class JsonLinesWriter(Writer):
    """`results.jsonl`: a line a picture with artifacts as `superlink ask --json` has them; made pictures."""

    format = "jsonl"
    _tells_errors = True

    def _kept(self, item: Item) -> Mapping[str, Any]:
        paths = made_places(item)
        return {
            "image": item.head.name,
            "size": item.size,
            "text": item.text,
            "artifacts": [to_json(one, path=paths.get(one.origin.id)) for one in item.artifacts],
            "values": dict(item.values),
            **({"error": item.head.error} if item.head.error else {}),
        }

    def _files(self, item: Item) -> Iterator[str]:
        yield from super()._files(item)
        yield from made_places(item).values()

    def _write(self, item: Item) -> None:
        super()._write(item)
        save_made(item, self.folder)

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        lines = [json.dumps(record.body).encode() + b"\n" for record in records]
        return [write_whole(self.folder / "results.jsonl", b"".join(lines))]


ITEM_COLUMNS = (
    "image", "artifact", "type", "decoder", "label", "score", "x0", "y0", "x1", "y1", "mask", "keypoints"
)  # fmt: skip
IMAGE_COLUMNS = ("image", "width", "height", "items", "text", "error")


class CsvWriter(Writer):
    """`items.csv` with a row an item, `images.csv` with a row a picture and its values.

    A value called like another column ("items") has the column "value.items".
    Corners are pixels; a mask is COCO's compressed run lengths, keypoints are JSON
    ({"nose": [x, y, visibility]}).
    """

    format = "csv"
    _tells_errors = True

    def _kept(self, item: Item) -> Mapping[str, Any]:
        rows: list[list[Any]] = []
        for artifact in item.found:
            runs = artifact.rle() if isinstance(artifact, Masks) else None
            kind = type(artifact).__name__.lower()
            for row, (phrase, score, box) in enumerate(
                zip(artifact.phrases, artifact.scores.tolist(), artifact.xyxy.tolist(), strict=True)
            ):
                corners = [round(value, COORDINATE_DIGITS) for value in box]
                points = ""
                if isinstance(artifact, Keypoints):
                    xyv = [[round(v, COORDINATE_DIGITS) for v in one] for one in artifact.xyv[row].tolist()]
                    points = json.dumps(dict(zip(artifact.keypoint_names, xyv, strict=True)))
                rows.append([
                    item.head.name, artifact.origin.id, kind, artifact.origin.decoder, phrase,
                    round(score, SCORE_DIGITS), *corners, runs[row]["counts"] if runs else "", points,
                ])  # fmt: skip
        values = {key: one if isinstance(one, str) else json.dumps(one) for key, one in item.values.items()}
        return {"size": item.size, "text": item.text, "rows": rows, "values": values}

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        items: list[Sequence[Any]] = []
        kept = []
        for record in records:
            items += record.body["rows"]
            height, width = record.body["size"] or ("", "")
            count, text = len(record.body["rows"]), record.body["text"]
            row = [record.head.name, width, height, count, text, record.head.error]
            kept.append((row, record.body["values"]))
        columns = sorted({key for _, values in kept for key in values})
        images = [[*row, *(values.get(key, "") for key in columns)] for row, values in kept]
        heads = (*IMAGE_COLUMNS, *map(_column, columns))
        return [
            _table(self.folder / "items.csv", ITEM_COLUMNS, items),
            _table(self.folder / "images.csv", heads, images),
        ]


def _column(value: str) -> str:
    # "value.items" gives way as well, lest it meets "items".
    return f"value.{value}" if value.rpartition("value.")[2] in IMAGE_COLUMNS else value


def _table(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(heads)
    table.writerows(rows)
    return write_whole(path, text.getvalue().encode("utf-8", "backslashreplace"))
