"""What a picture shows: every region that stands out, with its colour and its shape.

    for seen in see(pixels):
        print(seen.name, seen.score)       # "red circle" 0.96

Nothing here is learned, so it can judge what a network drew. It is meant for plain and softly shaded
backgrounds; patterns and written words are seen as things.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from superlink.router.errors import InputError
from superlink.workflows.eval.judge.colors import Lab, name_of
from superlink.workflows.eval.judge.regions import (
    AROUND,
    LEAST_AREA,
    STANDS_OUT,
    Flags,
    Ground,
    ground_of,
    parts,
    regions,
    thickness,
)
from superlink.workflows.eval.judge.silhouettes import Coverage, ShapeScore, shape_of

RECOGNISED = 0.78  # least intersection over union with an ideal shape
PERSON = 0.46  # people stand in many ways
_UPRIGHT = 1.0  # a person is higher than this many widths
_OUTLINE = 0.07  # of the size: a thinner line around background is an edge, not the thing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    color: str  # one of the twelve names
    shape: str  # one of the nine names: the nearest
    score: float  # intersection over union with the ideal shape
    mask: Flags  # (H, W)

    @property
    def name(self) -> str:
        """ "red circle"."""
        return f"{self.color} {self.shape}"

    @property
    def is_recognised(self) -> bool:
        """Whether the shape is drawn well enough to bear its name."""
        if self.shape != "person":
            return self.score >= RECOGNISED
        rows, columns = np.nonzero(self.mask)
        return bool(self.score >= PERSON and np.ptp(rows) > _UPRIGHT * np.ptp(columns))

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def center(self) -> tuple[float, float]:
        """x, y of the mean pixel."""
        rows, columns = np.nonzero(self.mask)
        return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5


def see(pixels: NDArray[np.uint8]) -> list[Seen]:
    """Every thing in a picture, largest first.

    Args:
        pixels: (H, W, 3) RGB, at least 16 pixels a side.

    Raises:
        InputError: not a picture of that kind.
    """
    ground = ground_of(_checked(pixels))
    found = [seen for region in regions(ground) for seen in _things(ground, region)]
    return sorted(found, key=lambda seen: -seen.area)


def background_color(pixels: NDArray[np.uint8]) -> str:
    """The name of the background's colour.

    Raises:
        InputError: not a picture (H, W, 3) of at least 16 pixels a side.
    """
    ground = ground_of(_checked(pixels))
    behind = ground.lab[~binary_dilation(ground.front, AROUND, iterations=2)]
    return name_of(np.median(behind if len(behind) else ground.paper.reshape(-1, 3), axis=0))


def _checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or min(pixels.shape[:2]) < 16:
        raise InputError(
            f"a judged picture is (H, W, 3) of uint8 with at least 16 pixels a side, "
            f"got {list(pixels.shape)} of {pixels.dtype}"
        )
    return pixels


def _things(ground: Ground, region: Flags) -> list[Seen]:
    """One thing, or the things that touch each other in a region."""
    pieces = parts(ground, region)
    whole = _one(ground, region, max(pieces, key=np.count_nonzero))
    if len(pieces) == 1:
        return [whole]
    least = LEAST_AREA * region.size
    apart = [_one(ground, piece, piece) for piece in pieces if np.count_nonzero(piece) >= least]
    if not apart:
        return [whole]
    if whole.shape == "person" and whole.is_recognised and apart[0].area >= 0.6 * whole.area:
        return [whole]  # with a face of its own
    mean = sum(seen.score * seen.area for seen in apart) / sum(seen.area for seen in apart)
    nested = any(seen.is_recognised and _is_within(seen.mask, apart[0].mask) for seen in apart[1:])
    return [whole] if whole.score > mean - 0.03 and not nested else apart


def _one(ground: Ground, flags: Flags, colored: Flags) -> Seen:
    """The thing that covers `flags` and has the colour of `colored`."""
    inner = binary_erosion(colored, AROUND)
    color = np.median(ground.lab[inner if np.count_nonzero(inner) >= 6 else colored], axis=0)
    solid = binary_fill_holes(flags)
    size = max(np.ptp(np.nonzero(flags), axis=1) + 1)
    if np.count_nonzero(solid & ~flags) > 0.5 * np.count_nonzero(solid) and thickness(flags) < max(
        2.5, _OUTLINE * size + 1
    ):
        flags, color = solid, np.median(ground.lab[solid & ~flags], axis=0)
    scored = _shape(_coverage(ground, flags, color))
    return Seen(color=name_of(color), shape=scored.shape, score=scored.score, mask=flags)


def _shape(coverage: Coverage) -> ShapeScore:
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    return shape_of(coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _coverage(ground: Ground, flags: Flags, color: Lab) -> Coverage:
    """How much of every pixel the thing covers: its edge pixels are blends with the background."""
    coverage = flags.astype(np.float32)
    rim = (flags & ~binary_erosion(flags, AROUND)) | (binary_dilation(flags, AROUND) & ~flags & ~ground.front)
    toward = color - ground.paper[rim]
    length = np.maximum((toward**2).sum(axis=1), STANDS_OUT**2)
    blend = ((ground.lab[rim] - ground.paper[rim]) * toward).sum(axis=1) / length
    coverage[rim] = np.where(flags[rim], np.clip(blend, 0.5, 1), np.clip(blend, 0, 0.5))
    return coverage


def _is_within(inner: Flags, outer: Flags) -> bool:
    return bool(np.count_nonzero(binary_fill_holes(outer) & inner) > 0.95 * np.count_nonzero(inner))
