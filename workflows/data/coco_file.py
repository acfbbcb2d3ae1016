"""Reading files in COCO's format, with every record checked before training starts.

A record that cannot be used raises a DataError that names the file and the record; with
`skip_bad=True` it is left out and its message is kept in `CocoFile.skipped`.
Annotations marked `iscrowd` stand for groups. They are no objects; what is found in one counts neither way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from superlink.agents.pictures import read_picture
from superlink.decoders.artifacts import BoolArray
from superlink.decoders.rle import mask_of
from superlink.router.errors import DataError, InputError
from superlink.router.messages import ImageArray
from superlink.workflows.data.records import picture_file, shortened

OUTSIDE = 1.0  # pixels by which a box may leave its picture, as rounding in published files does
LARGEST = 1 << 31  # side of a picture; a typing error beyond it is no number that boxes can be compared with

Record = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    id: int
    path: Path
    size: tuple[int, int]  # (height, width)
    where: str  # "annotations/instances.json, image 17"
    record: Record  # as in the file

    def pixels(self) -> ImageArray:
        """The picture, (H, W, 3) RGB.

        Raises:
            DataError: it cannot be read, or is not of the size that the file says.
        """
        try:
            found = read_picture(self.path)
        except InputError as error:
            raise DataError(f"{self.where}: {error}") from error
        if found.size != self.size:
            raise DataError(
                f"{self.where}: {str(self.path)!r} has the size {list(found.size)}, "
                f"the record says {list(self.size)}"
            )
        return found.pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoAnnotation:
    category: int
    xyxy: tuple[float, float, float, float]  # inside the picture
    segmentation: Any  # None where there is none
    where: str  # "annotations/instances.json, annotation 3"
    record: Record  # as in the file

    def mask(self, size: tuple[int, int]) -> BoolArray:
        """(H, W).

        Raises:
            DataError: there is none, or it does not fit the picture.
        """
        if self.segmentation is None:
            raise DataError(f"{self.where}: has no segmentation, which masks are learned from")
        try:
            return mask_of(self.segmentation, size=size)
        except InputError as error:
            raise DataError(f"{self.where}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoFile:
    path: Path
    images: tuple[CocoImage, ...]
    annotations: Mapping[int, tuple[CocoAnnotation, ...]]  # by image id; every image has an entry
    names: Mapping[int, str]  # of the categories, as a person would say them
    categories: Mapping[int, Record]  # as in the file
    groups: Mapping[
        int, tuple[CocoAnnotation, ...]
    ]  # those marked `iscrowd`, by image id, where there are any
    skipped: tuple[str, ...] = field(default=())  # why records were left out


def read_coco(path: str | Path, images: str | Path, *, skip_bad: bool = False) -> CocoFile:
    """Read and check a file.

    Args:
        path: the JSON file.
        images: folder that its file names start from.
        skip_bad: leave out images and annotations that cannot be used.

    Raises:
        DataError: not a COCO file, or a record that cannot be used.
    """
    path, folder = Path(path), Path(images)
    data = _parsed(path)
    names = _names(path, data["categories"])
    skipped: list[str] = []

    def read(record: Any, check: Callable[[Any], T | None]) -> T | None:
        try:
            return check(record)
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
            return None

    found: dict[int, CocoImage] = {}

    def check_image(record: Any) -> CocoImage:
        image = _image(path, folder, record)
        if image.id in found:
            raise DataError(f"{image.where}: the id occurs twice")
        return image

    for record in data["images"]:
        image = read(record, check_image)
        if image is not None:
            found[image.id] = image
    rows: dict[int, list[CocoAnnotation]] = {key: [] for key in found}
    groups: dict[int, list[CocoAnnotation]] = {}
    lost = {_id(record, "id") for record in data["images"]} - {None, *found}
    for record in data["annotations"]:
        if isinstance(record, dict) and _id(record, "image_id") in lost:
            continue
        if isinstance(record, dict) and record.get("iscrowd"):
            with suppress(DataError):  # nothing is learned from it
                crowd = _annotation(path, record, found, names)
                groups.setdefault(record["image_id"], []).append(crowd)
            continue
        annotation = read(record, lambda record: _annotation(path, record, found, names))
        if annotation is not None:
            rows[record["image_id"]].append(annotation)
    return CocoFile(
        path=path,
        images=tuple(found.values()),
        annotations={key: tuple(value) for key, value in rows.items()},
        groups={key: tuple(value) for key, value in groups.items()},
        names=names,
        categories={record["id"]: record for record in data["categories"]},
        skipped=tuple(skipped),
    )


def place_of(path: Path) -> str:
    """A file as records name it: with its folder, since the files of all splits may have one name."""
    path = path.absolute()
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def spoken(name: str, where: str) -> str:
    """A category or expression as a person would say it.

    Raises:
        DataError: empty, or with signs that the router's special tokens are made of.
    """
    words = " ".join(name.replace("_", " ").lower().split())
    if not words:
        raise DataError(f"{where}: the name is empty")
    if set(words) & set("<>[]"):
        raise DataError(f"{where}: {name!r} has one of < > [ ], which are kept for routing tokens")
    return words


def _parsed(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DataError(f"{path}: a COCO file is an object with lists; there is no list {key!r}")
    return dict(data)


def _names(path: Path, categories: Sequence[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for position, record in enumerate(categories):
        where = _where(path, "category", record, position)
        key, name = _field(record, "id", int, where), _field(record, "name", str, where)
        if key in names:
            raise DataError(f"{where}: the id occurs twice")
        names[key] = spoken(name, where)
    if not names:
        raise DataError(f"{path}: has no categories")
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: two categories have one name")
    return names


def _image(path: Path, folder: Path, record: Any) -> CocoImage:
    where = _where(path, "image", record)
    key = _field(record, "id", int, where)
    height, width = _field(record, "height", int, where), _field(record, "width", int, where)
    if not (0 < height <= LARGEST and 0 < width <= LARGEST):
        raise DataError(f"{where}: has the size {shortened([height, width])}")
    file = picture_file(where, folder, _field(record, "file_name", str, where))
    return CocoImage(id=key, path=file, size=(height, width), where=where, record=record)


def _annotation(
    path: Path, record: Any, images: Mapping[int, CocoImage], names: Mapping[int, str]
) -> CocoAnnotation:
    where = _where(path, "annotation", record)
    image, category = _field(record, "image_id", int, where), _field(record, "category_id", int, where)
    if image not in images:
        raise DataError(f"{where}: there is no image {shortened(image)}")
    if category not in names:
        raise DataError(f"{where}: there is no category {shortened(category)}")
    box = _field(record, "bbox", list, where)
    if len(box) != 4 or not all(is_number(side) for side in box):
        raise DataError(f"{where}: bbox is {shortened(box)}, expected four numbers x, y, width, height")
    x, y, wide, high = map(float, box)
    height, width = images[image].size
    if wide <= 0 or high <= 0:
        raise DataError(f"{where}: the box {box} has no area")
    if x < -OUTSIDE or y < -OUTSIDE or x + wide > width + OUTSIDE or y + high > height + OUTSIDE:
        raise DataError(f"{where}: the box {box} leaves its picture of width {width} and height {height}")
    # Both ends: one that begins beyond the edge would be inside out.
    left, right = (min(max(end, 0.0), float(width)) for end in (x, x + wide))
    top, bottom = (min(max(end, 0.0), float(height)) for end in (y, y + high))
    if left >= right or top >= bottom:
        raise DataError(
            f"{where}: the box {box} has no area inside its picture of width {width} and height {height}"
        )
    return CocoAnnotation(
        category=category,
        xyxy=(left, top, right, bottom),
        segmentation=record.get("segmentation"),
        where=where,
        record=record,
    )


def _where(path: Path, kind: str, record: Any, position: int | None = None) -> str:
    key = record.get("id") if isinstance(record, dict) else None
    if key is None and position is not None:
        return f"{place_of(path)}, {kind} at position {position}"
    return f"{place_of(path)}, {kind} {shortened(key)}"


def is_number(value: object) -> bool:
    """Whether it can be computed with: JSON also has NaN, Infinity, and integers beyond every float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _id(record: Any, key: str) -> int | None:
    """An id, or None where there is no proper one, which the checks of the record then say."""
    value = record.get(key) if isinstance(record, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _field(record: Any, key: str, kind: type[T], where: str) -> T:
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object, got {type(record).__name__}")
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: {key!r} is {shortened(value)}, expected {kind.__name__}")
    return value
