"""PNG: a black-and-white file a mask, a drawing of every picture, and the pictures that were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from superlink.decoders.artifacts import Masks
from superlink.decoders.png import save_masks
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer, made_pictures


class PngWriter(Writer):
    format = "png"

    def _kept(self, item: Item) -> Mapping[str, Any]:
        for artifact in item.found:
            if isinstance(artifact, Masks):
                save_masks(artifact, self.folder / "masks", stem=f"{item.head.stem}-{artifact.origin.id}")
        if item.pixels is not None and item.found:
            from superlink.decoders.draw import draw  # brings supervision along

            draw(item.pixels, item.found).save(self.folder / "drawn" / f"{item.head.stem}.png")
        made_pictures(item, self.folder)
        return {}

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        return [path for path in (self.folder / name for name in ("masks", "drawn", "made")) if path.is_dir()]
