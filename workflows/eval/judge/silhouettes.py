"""The shape of a silhouette: the ideal one that covers it best, whatever its place, size and turn.

A silhouette is moved to its centroid, scaled by its radius of gyration and compared with references of
every shape by intersection over union. Squares and diamonds are told apart by how they stand, so they
are references in the turns alone in which they keep their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, map_coordinates

from superlink.workflows.data.shapes import SHAPES
from superlink.workflows.data.shapes.figures import Figure
from superlink.workflows.data.shapes.raster import rasterize

Coverage = NDArray[np.float32]  # (h, w) in [0, 1]
GRID = 36  # cells of a normalised silhouette's side
REACH = 2.3  # half of that side in radii of gyration
LEAST_HOLE = 0.1  # of the filled area, for a ring or a figure that is drawn as a line
_SIDE = 96  # pixels of a reference before it is normalised

# shape -> (details, variants, turns in degrees); a turn that a symmetry repeats is left out
_REFERENCES: dict[str, tuple[tuple[float, ...], tuple[int, ...], tuple[float, ...]]] = {
    "circle": ((0.5,), (0,), (0.0,)),
    "ring": ((0.0, 0.33, 0.67, 1.0), (0,), (0.0,)),
    "square": ((0.5,), (0,), tuple(range(-20, 21, 4))),
    "diamond": ((0.0, 0.2, 0.5, 0.8, 1.0), (0,), (*range(-16, 17, 4), *range(74, 107, 4))),
    "triangle": ((0.0, 0.4, 0.8), (0, 1, 3), tuple(range(0, 360, 8))),
    "star": ((0.0, 0.35, 0.7, 1.0), (0, 4), tuple(range(0, 72, 6))),
    "heart": ((0.0, 0.8), (0, 1), tuple(range(-60, 61, 6))),
    "cross": ((0.0, 0.3, 0.6, 1.0), (0,), tuple(range(0, 90, 6))),
    "person": ((0.2, 0.8), tuple(range(60)), (-10.0, 0.0, 10.0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeScore:
    shape: str
    score: float  # intersection over union with the best reference


def shape_of(coverage: Coverage) -> ShapeScore:
    """The best shape of a silhouette; its holes are read off it.

    A circle with a hole is a ring; other figures with a hole are themselves, drawn as a line.

    Args:
        coverage: (h, w), with at least one pixel above a half.
    """
    solid = filled(coverage)
    hole = 1.0 - float(coverage.sum()) / max(float(solid.sum()), 1e-6)
    open_scores, best = _scores(coverage), _scores(solid)
    best["person"] = max(best["person"], open_scores["person"])  # with gaps between the limbs
    best["ring"] = max(open_scores["ring"], best["circle"]) if hole >= LEAST_HOLE else 0.0
    if hole >= LEAST_HOLE:
        best["circle"] = 0.0
    shape = max(best, key=best.__getitem__)
    return ShapeScore(shape=shape, score=best[shape])


def filled(coverage: Coverage) -> Coverage:
    """`coverage` with its holes covered."""
    inside = binary_fill_holes(coverage >= 0.5)
    solid: Coverage = np.where(inside & (coverage < 0.5), np.float32(1), coverage)
    return solid


def normalised(coverage: Coverage, degrees: float = 0.0) -> Coverage:
    """A silhouette on the common grid (GRID, GRID), turned clockwise by `degrees`."""
    ys, xs = np.mgrid[: coverage.shape[0], : coverage.shape[1]]
    total = max(float(coverage.sum()), 1e-6)
    cx, cy = float((coverage * xs).sum()) / total, float((coverage * ys).sum()) / total
    spread = float((coverage * ((xs - cx) ** 2 + (ys - cy) ** 2)).sum()) / total
    step = REACH * max(spread, 0.25) ** 0.5 / GRID  # two samples a cell
    along = (np.arange(2 * GRID) - GRID + 0.5) * step
    angle = np.deg2rad(degrees)
    across, down = np.meshgrid(along, along)
    x = cx + np.cos(angle) * across + np.sin(angle) * down
    y = cy - np.sin(angle) * across + np.cos(angle) * down
    fine = map_coordinates(coverage, [y, x], order=1, mode="constant", cval=0.0)
    grid: Coverage = fine.reshape(GRID, 2, GRID, 2).mean(axis=(1, 3)).astype(np.float32)
    return grid


def _scores(coverage: Coverage) -> dict[str, float]:
    names, references = _bank()
    grid = normalised(coverage).ravel()
    shared = np.minimum(references, grid).sum(axis=1)
    overlap = shared / (references.sum(axis=1) + grid.sum() - shared)
    return {shape: float(overlap[names == shape].max()) for shape in SHAPES}


@lru_cache(maxsize=1)
def _bank() -> tuple[NDArray[np.str_], Coverage]:
    """Names (N,) and silhouettes (N, GRID * GRID) of the references."""
    rows = [
        (shape, normalised(drawn, turn).ravel())
        for shape, (details, variants, turns) in _REFERENCES.items()
        for drawn in _drawn(shape, details, variants)
        for turn in turns
    ]
    return np.asarray([shape for shape, _ in rows]), np.stack([grid for _, grid in rows])


def _drawn(shape: str, details: tuple[float, ...], variants: tuple[int, ...]) -> Iterator[Coverage]:
    for variant in variants:
        for detail in details:
            figure = Figure(
                shape=shape,
                color="black",
                rgb=(0, 0, 0),
                cx=_SIDE / 2,
                cy=_SIDE / 2,
                size=_SIDE - 4.0,
                detail=detail,
                variant=variant,
            )
            yield rasterize(figure, "smooth", _SIDE, _SIDE).fill
