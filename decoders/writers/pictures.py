"""PNG: a black-and-white file a mask, a drawing of every picture, and the pictures that were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from superlink.decoders.artifacts import Masks
from superlink.decoders.png import save_masks
from superlink.decoders.writers.records import Record
from superlink.decoders.writers.writer import Item, Writer, made_places, save_made


class PngWriter(Writer):
    format = "png"

    def _kept(self, item: Item) -> Mapping[str, Any]:
        return {}

    def _files(self, item: Item) -> Iterator[str]:
        yield from super()._files(item)
        yield from made_places(item).values()
        for artifact in item.found:
            if isinstance(artifact, Masks):
                # As `save_masks` calls them.
                stem = f"masks/{item.head.stem}-{artifact.origin.id}"
                yield from (f"{stem}-{row}.png" for row in range(len(artifact)))
        if item.pixels is not None and item.found:
            yield f"drawn/{item.head.stem}.png"

    def _write(self, item: Item) -> None:
        super()._write(item)
        save_made(item, self.folder)
        for artifact in item.found:
            if isinstance(artifact, Masks):
                save_masks(artifact, self.folder / "masks", stem=f"{item.head.stem}-{artifact.origin.id}")
        if item.pixels is not None and item.found:
            from superlink.decoders.draw import draw  # brings supervision along

            draw(item.pixels, item.found).save(self.folder / "drawn" / f"{item.head.stem}.png")

    def _assembled(self, records: Iterator[Record]) -> Sequence[Path]:
        return [path for path in (self.folder / name for name in ("masks", "drawn", "made")) if path.is_dir()]
