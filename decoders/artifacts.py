"""Artifacts: what decoders produce, and what training data is labelled with.

Arrays are numpy on the CPU. Coordinates are pixels of the ORIGINAL, upright picture, x to the
right and y down, boxes as x0 y0 x1 y1 with x1, y1 exclusive edges (a one-pixel box is 1 wide).

Importing this module costs numpy alone. Conversions (JSON, COCO, supervision, PNG) and drawing
live in modules of their own and are imported when a method asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from superlink.router.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from superlink.decoders.rle import Rle

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Index = slice | Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an artifact comes from."""

    id: str = ""  # "boxes-1", unique within a session
    source: str = ""  # content hash of the picture it speaks of
    decoder: str = ""  # "grounding_dino"; "" for labels
    round: int = 0  # turn of the session, from 1; 0 outside a session


class _Convertible:
    """What every artifact can do."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `superlink.decoders.export.from_json` takes it back."""
        from superlink.decoders.export import to_json

        return to_json(self)  # type: ignore[arg-type]  # every subclass is one of `Artifact`


class _Items(_Convertible):
    """Rows of items that each have a score and a label."""

    __slots__ = ()

    scores: FloatArray
    labels: IntArray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The name of every item, in order."""
        return tuple(self.names[label] for label in self.labels)

    def select(self, index: Index) -> Self:
        """The items at `index` (slice, positions or flags), in that order; `names` stay."""
        rows = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(rows, np.ndarray) and rows.size == 0:
            rows = rows.astype(np.int64)  # an empty list has no integer type of its own
        chosen = {name: getattr(self, name)[rows] for name in _ROWS if hasattr(self, name)}
        return replace(self, **chosen)  # type: ignore[type-var]  # subclasses are dataclasses

    def filtered(self, threshold: float) -> Self:
        """The items that score at least `threshold`."""
        return self.select(self.scores >= threshold)

    def sorted(self) -> Self:
        """Best score first; equal scores keep their order."""
        return self.select(np.argsort(-self.scores, kind="stable"))

    def named(self, name: str) -> Self:
        """The items of one name.

        Raises:
            InputError: nothing of that name was asked for.
        """
        if name not in self.names:
            raise InputError(f"no items are called {name!r}; the names are {', '.join(self.names) or 'none'}")
        return self.select(np.isin(self.labels, [k for k, known in enumerate(self.names) if known == name]))

    def draw(self, image: NDArray[np.uint8]) -> Picture:
        """These items on `image` (H, W, 3); needs supervision."""
        from superlink.decoders.draw import draw

        return draw(image, [self])  # type: ignore[list-item]  # every subclass is one of `Artifact`

    def to_supervision(self) -> Any:
        """`supervision.Detections`, or `supervision.KeyPoints` for keypoints."""
        from superlink.decoders.detections import to_supervision

        return to_supervision(self)  # type: ignore[arg-type]  # every subclass is one of the three

    def to_coco(self, *, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations with scores; the category of label k is k + 1.

        `superlink.decoders.coco` has the other direction, other category ids and whole files.
        """
        from superlink.decoders.coco import annotations_of

        return annotations_of(self, image_id=image_id, first_id=first_id)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes(_Items):
    """Axis-aligned boxes, best score first."""

    xyxy: FloatArray  # (N, 4); 0 <= x0 <= x1 <= width, 0 <= y0 <= y1 <= height
    scores: FloatArray  # (N,) in [0, 1]; ones for labels
    labels: IntArray  # (N,) index into `names`
    names: tuple[str, ...]  # what was asked for, present or not
    size: tuple[int, int]  # (height, width) of the picture
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        _check_rows("Boxes", len(self.xyxy), scores=self.scores, labels=self.labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks(_Items):
    """Instance masks with their boxes, best score first."""

    masks: BoolArray  # (N, H, W)
    xyxy: FloatArray  # (N, 4), tight around each mask; zeros for an empty one
    scores: FloatArray  # (N,)
    labels: IntArray  # (N,)
    names: tuple[str, ...]
    size: tuple[int, int]  # (height, width)
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        _check_rows("Masks", len(self.masks), xyxy=self.xyxy, scores=self.scores, labels=self.labels)

    def boxes(self) -> Boxes:
        """The box of every mask."""
        shared = ("xyxy", "scores", "labels", "names", "size", "origin")
        return Boxes(**{name: getattr(self, name) for name in shared})

    def rle(self) -> list[Rle]:
        """Every mask as COCO run lengths: {"size": [height, width], "counts": "..."}."""
        from superlink.decoders.rle import encode

        return encode(self.masks)

    def save(self, folder: str | PathLike[str], *, stem: str = "") -> list[Path]:
        """One black-and-white PNG a mask, `<stem>-0.png` and so on; `stem` is the id by default."""
        from superlink.decoders.png import save_masks

        return save_masks(self, folder, stem=stem)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keypoints(_Items):
    """Named keypoints of instances, best score first."""

    xyv: FloatArray  # (N, K, 3): x, y, visibility (0 not labelled, 1 hidden, 2 visible)
    keypoint_names: tuple[str, ...]  # K names
    xyxy: FloatArray  # (N, 4) box of each instance
    scores: FloatArray  # (N,)
    labels: IntArray  # (N,)
    names: tuple[str, ...]
    size: tuple[int, int]  # (height, width)
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        _check_rows("Keypoints", len(self.xyv), xyxy=self.xyxy, scores=self.scores, labels=self.labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture(_Convertible):
    """A picture that a decoder made."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    origin: Origin = field(default_factory=Origin)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the file whole or not at all; the suffix says the format.

        Raises:
            InputError: no such format, or the place cannot be written.
        """
        from superlink.decoders.png import save_picture

        return save_picture(self.pixels, path)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text(_Convertible):
    """Words that a decoder made."""

    text: str
    origin: Origin = field(default_factory=Origin)


Artifact = Boxes | Masks | Keypoints | Picture | Text

_ROWS = ("masks", "xyv", "xyxy", "scores", "labels")


def tight_boxes(masks: BoolArray) -> FloatArray:
    """The box around each mask.

    Args:
        masks: (N, H, W).

    Returns:
        (N, 4) xyxy with exclusive right and bottom edges; zeros for an empty mask.
    """
    boxes = np.zeros((len(masks), 4), np.float32)
    for row, mask in enumerate(masks):
        columns, lines = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        if columns.size:
            boxes[row] = columns[0], lines[0], columns[-1] + 1, lines[-1] + 1
    return boxes


def equal(left: object, right: object, *, atol: float = 0.0, ignore: Iterable[str] = ()) -> bool:
    """Whether two artifacts are of one type and hold the same.

    Args:
        left: an artifact.
        right: what it is compared with.
        atol: largest difference of any coordinate or score.
        ignore: fields left out, such as "origin".
    """
    if type(left) is not type(right) or not isinstance(left, Boxes | Masks | Keypoints | Picture | Text):
        return False
    for one in fields(left):
        if one.name in ignore:
            continue
        a, b = getattr(left, one.name), getattr(right, one.name)
        if isinstance(a, np.ndarray):
            if np.shape(a) != np.shape(b):
                return False
            same = np.allclose(a, b, rtol=0.0, atol=atol) if a.dtype.kind == "f" else np.array_equal(a, b)
            if not same:
                return False
        elif a != b:
            return False
    return True


def _check_rows(kind: str, rows: int, **arrays: NDArray[Any]) -> None:
    for name, array in arrays.items():
        if len(array) != rows:
            raise InputError(f"{kind}: {rows} items but {len(array)} {name}")
