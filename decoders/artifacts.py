"""Artifacts: what decoders produce, and what training data is labelled with.

Arrays are numpy on the CPU. Coordinates are pixels of the ORIGINAL, upright picture, x to the
right and y down, boxes as x0 y0 x1 y1 with x1, y1 exclusive edges (a one-pixel box is 1 wide).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from superlink.router.errors import InputError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an artifact comes from."""

    id: str = ""  # "boxes-1", unique within a session
    source: str = ""  # content hash of the picture it speaks of
    decoder: str = ""  # "grounding_dino"; "" for labels
    round: int = 0  # turn of the session, from 1; 0 outside a session


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Axis-aligned boxes, best score first."""

    xyxy: FloatArray  # (N, 4); 0 <= x0 <= x1 <= width, 0 <= y0 <= y1 <= height
    scores: FloatArray  # (N,) in [0, 1]; ones for labels
    labels: IntArray  # (N,) index into `names`
    names: tuple[str, ...]  # what was asked for, present or not
    size: tuple[int, int]  # (height, width) of the picture
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        _check_rows("Boxes", len(self.xyxy), scores=self.scores, labels=self.labels)

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masks:
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

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keypoints:
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

    def __len__(self) -> int:
        return len(self.xyv)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A picture that a decoder made."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """Words that a decoder made."""

    text: str
    origin: Origin = field(default_factory=Origin)


Artifact = Boxes | Masks | Keypoints | Picture | Text


def _check_rows(kind: str, rows: int, **arrays: NDArray[Any]) -> None:
    for name, array in arrays.items():
        if len(array) != rows:
            raise InputError(f"{kind}: {rows} items but {len(array)} {name}")
