"""The formats by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from os import PathLike
from typing import Any

from superlink.decoders.writers.writer import Writer
from superlink.router.errors import InputError

_CLASSES = {
    "coco": ("coco", "CocoWriter"),
    "csv": ("tables", "CsvWriter"),
    "fiftyone": ("fiftyone", "FiftyOneWriter"),
    "jsonl": ("tables", "JsonLinesWriter"),
    "labelme": ("labelme", "LabelMeWriter"),
    "png": ("pictures", "PngWriter"),
    "yolo": ("yolo", "YoloWriter"),
}
FORMATS = tuple(_CLASSES)


def open_writer(
    format: str,
    folder: str | PathLike[str],
    *,
    names: Sequence[str] = (),
    categories: Sequence[str] = (),
    pictures: bool | None = None,
    **options: Any,
) -> Writer:
    """Write results of many pictures to a folder, or go on with what an earlier run wrote there.

    Args:
        format: one of `FORMATS`.
        folder: where; made when missing.
        names: of all pictures that will come, where they are known: "a.jpg" and "a.png" then get files of
            different names, the same ones in every run.
        categories: that come first, in this order; others follow as they come, by the pictures' names.
        pictures: whether the pictures themselves are written too, as upright PNG; by default where the
            format needs them (YOLO, LabelMe, FiftyOne).
        options: of the format alone: `task` of YOLO, `dataset` of FiftyOne.

    Raises:
        InputError: no such format or option, a folder that is a file, or records of another version.
    """
    if format not in _CLASSES:
        raise InputError(f"no format {format!r}; formats are {', '.join(FORMATS)}")
    allowed = {"yolo": ("task",), "fiftyone": ("dataset",)}.get(format, ())
    if unknown := sorted(set(options) - set(allowed)):
        raise InputError(f"the format {format!r} has no option {unknown[0]!r}")
    module, name = _CLASSES[format]
    kind: type[Writer] = getattr(import_module(f"superlink.decoders.writers.{module}"), name)
    return kind(folder, names=names, categories=categories, pictures=pictures, **options)
