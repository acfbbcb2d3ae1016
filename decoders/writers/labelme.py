"""LabelMe: one JSON beside each picture, to be corrected by hand.

Boxes are rectangles, masks polygons (parts of one mask share a group), keypoints points in the group of
their rectangle. Outlines are simplified to less than a pixel, so that a corner can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from superlink.decoders.artifacts import Keypoints, Masks
from superlink.decoders.files import write_whole
from superlink.decoders.polygons import TOLERANCE, outlines
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer

# The oldest version of LabelMe whose files have all fields that are written here.
LABELME_VERSION = "5.0.0"


class LabelMeWriter(Writer):
    format = "labelme"
    keeps_pictures = True
    picture_folder = ""

    def _kept(self, item: Item) -> Mapping[str, Any]:
        return {}

    def _files(self, item: Item) -> Iterator[str]:
        yield from super()._files(item)
        if item.size is not None:
            yield f"{item.head.stem}.json"

    def _write(self, item: Item) -> None:
        super()._write(item)
        if item.size is None:
            return
        height, width = item.size
        shown = PurePosixPath(f"{item.head.stem}.png" if self._pictures else item.head.name).name
        data: dict[str, Any] = {
            "version": LABELME_VERSION,
            "flags": {},
            "shapes": _shapes(item),
            "imagePath": shown,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        text = json.dumps(data, indent=2).encode() + b"\n"
        write_whole(self.folder / f"{item.head.stem}.json", text)

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        return [self.folder]


def _shapes(item: Item) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = []
    groups = 0
    for artifact in item.found:
        for row, (phrase, score) in enumerate(zip(artifact.phrases, artifact.scores.tolist(), strict=True)):
            x0, y0, x1, y1 = artifact.xyxy[row].tolist()
            drawn = [(phrase, "rectangle", [[x0, y0], [x1, y1]])]
            if isinstance(artifact, Masks):
                rings = outlines(artifact.masks[row], tolerance=TOLERANCE)
                drawn = [(phrase, "polygon", ring.tolist()) for ring in rings]
            if isinstance(artifact, Keypoints):
                seen = zip(artifact.keypoint_names, artifact.xyv[row].tolist(), strict=True)
                drawn += [(name, "point", [[x, y]]) for name, (x, y, v) in seen if v > 0]
            groups += len(drawn) > 1
            group = groups if len(drawn) > 1 else None
            shapes += [
                {
                    "label": label,
                    "points": points,
                    "group_id": group,
                    "description": f"{score:.2f}",
                    "shape_type": kind,
                    "flags": {},
                }
                for label, kind, points in drawn
            ]
    return shapes
