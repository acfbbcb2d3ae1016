"""Outlines of masks as polygons, along the edges of pixels.

A polygon runs around its pixels, not through their centres: what encloses the one pixel at (3, 5) is the
square from (3, 5) to (4, 6). So the extent of a polygon is the box of its mask, and pycocotools fills an
outline that was not simplified with exactly the pixels that it was drawn around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from superlink.decoders.artifacts import BoolArray

Ring = NDArray[np.float64]  # (P, 2) x, y; closed, the first point is not repeated

TOLERANCE = 0.75  # pixels; above 1 / sqrt(2), so that the stairs of a slanted edge become a line

SMALL = 1000  # a part of fewer pixels than this, times the square of the tolerance, keeps its true outline

_RIGHT = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}  # y is down


def outlines(mask: BoolArray, *, tolerance: float = 0.0) -> list[Ring]:
    """One polygon for each part of a mask, from top to bottom; holes are joined to it by a seam.

    Args:
        mask: (H, W). Pixels that touch at a corner alone are different parts.
        tolerance: how far a simplified outline may be from the true one, in pixels; 0 = the true one.

    Returns:
        Polygons of at least four points; none for an empty mask.
    """
    columns, lines = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not columns.size:
        return []
    x, y = columns[0], lines[0]
    inside = mask[y : lines[-1] + 1, x : columns[-1] + 1]
    numbers, _ = label(inside)  # of parts
    borders: dict[int, tuple[list[Ring], list[Ring]]] = {}  # of each part: the outer one, then holes
    for ring in _rings(inside):
        outer, holes = borders.setdefault(int(numbers[_place(ring)]), ([], []))
        (outer if _area(ring) > 0 else holes).append(np.add(ring, (x, y)))
    return [
        joined([simplified(ring, tolerance) for ring in (*outer, *holes)])
        for outer, holes in borders.values()
    ]


def joined(rings: Sequence[Ring]) -> Ring:
    """One polygon out of several: seams without width lead from each to the nearest one before it.

    Fillings by the even-odd and by the non-zero rule are those of the rings together.
    """
    whole = rings[0]
    for ring in rings[1:]:
        gaps = np.square(whole[:, None] - ring[None]).sum(-1)
        at, start = np.unravel_index(int(gaps.argmin()), gaps.shape)
        turned = np.roll(ring, -int(start), axis=0)
        # Out over the seam, around, and back to the point where it began.
        whole = np.concatenate([whole[: at + 1], turned, turned[:1], whole[at:]])
    return whole


def simplified(ring: Ring, tolerance: float) -> Ring:
    """The fewest corners by Douglas and Peucker (1973) that keep within `tolerance` of a closed ring.

    A small ring, whose area would change by percents, stays as it is, and one that would become a line.
    """
    if len(ring) <= 4 or abs(_area(ring)) <= SMALL * tolerance**2 or tolerance <= 0:
        return ring
    far = int(np.square(ring - ring[0]).sum(1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _from_segment(closed[first + 1 : last], closed[first], closed[last])
        most = int(distances.argmax())
        if distances[most] > tolerance:
            middle = first + 1 + most
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    chosen: Ring = ring[keep[:-1]]
    return chosen if len(chosen) >= 3 and _area(chosen) * _area(ring) > 0 else ring


def _rings(mask: BoolArray) -> list[Ring]:
    """Every border between inside and outside, the inside to its right: outer ones have positive area."""
    edges = _edges(mask)
    rings = []
    while edges:
        # Dictionaries keep their order, so the first ring begins at the topmost edge.
        start = next(iter(edges))
        at, heading = start, edges[start][0]
        first = heading
        corners: list[tuple[int, int]] = []
        while True:
            ways = edges[at]
            # Where two pixels touch at a corner, staying right stays with the same pixel.
            turn = _RIGHT[heading] if _RIGHT[heading] in ways else ways[0]
            if turn != heading or not corners:
                corners.append(at)
            ways.remove(turn)
            if not ways:
                del edges[at]
            at, heading = (at[0] + turn[0], at[1] + turn[1]), turn
            if at == start:
                break
        # A ring may begin in the middle of a side.
        rings.append(np.asarray(corners[heading == first :], np.float64))
    return rings


def _edges(mask: BoolArray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Where an edge of the border can be taken from each corner of a pixel."""
    padded = np.pad(mask, 1).astype(np.int8)
    down, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for steps, flip, ahead, back in (
        (down, False, (1, 0), (-1, 0)),  # inside below: to the right; inside above: to the left
        (right, True, (0, -1), (0, 1)),  # inside on the right: up; on the left: down
    ):
        for y, x in np.argwhere(steps).tolist():
            way = ahead if steps[y, x] > 0 else back
            # An edge that goes back begins at its far end.
            begins = (way == back) != flip
            corner = (x, y + begins) if flip else (x + begins, y)
            found.setdefault(corner, []).append(way)
    return found


def _area(ring: Ring) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _place(ring: Ring) -> tuple[int, int]:
    """Row and column of a pixel of the part that a ring of `_rings` is a border of.

    Rings begin at their topmost edge: what they enclose is below it, what is around a hole above.
    """
    x, y = ring[0].astype(int).tolist()
    return (y, x) if _area(ring) > 0 else (y - 1, x)


def _from_segment(points: Ring, start: Ring, end: Ring) -> NDArray[np.float64]:
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    distances: NDArray[np.float64] = np.linalg.norm(points - start - share[:, None] * along, axis=1)
    return distances
