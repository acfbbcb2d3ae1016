"""Outlines of the shapes for `foreign`, written apart from those of the shapes world.

Loops of unit radius around the origin, y down; two loops are a shape and its hole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.float64]  # (N, 2) x, y
Outline = tuple[Loop, ...]
RING_HOLE = 0.6  # radius of a ring's hole


def _regular(corners: int, start: float = -90.0) -> Loop:
    angles = np.deg2rad(start + 360.0 * np.arange(corners) / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Loop:
    """The five-pointed star whose edges lie on a pentagram."""
    inner = _regular(5, -54.0) * (np.cos(np.deg2rad(72)) / np.cos(np.deg2rad(36)))
    return np.stack([_regular(5), inner], axis=1).reshape(-1, 2)


def _bezier(points: tuple[tuple[float, float], ...], steps: int = 16) -> Loop:
    """A cubic Bezier curve without its end point."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    p0, p1, p2, p3 = (np.asarray(point) for point in points)
    curve: Loop = (1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3
    return curve


def _heart() -> Loop:
    right_top = _bezier(((0.0, -0.45), (0.15, -1.0), (1.0, -1.0), (1.0, -0.3)))
    right_side = _bezier(((1.0, -0.3), (1.0, 0.2), (0.35, 0.55), (0.0, 0.95)))
    right = np.concatenate([right_top, right_side, np.array([[0.0, 0.95]])])
    return np.concatenate([right, right[-2:0:-1] * np.array([-1.0, 1.0])])


def _plus(arm: float = 0.32) -> Loop:
    corner = np.array([[arm, -1.0], [arm, -arm], [1.0, -arm]])
    turns = (corner, corner[::-1] * (1, -1), -corner, corner[::-1] * (-1, 1))
    return np.concatenate(turns)


def _beam(x0: float, y0: float, x1: float, y1: float, half: float = 0.07) -> Loop:
    along = np.array([x1 - x0, y1 - y0])
    side = np.array([-along[1], along[0]]) / np.hypot(*along) * half
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a + side, b + side, b - side, a - side])


def _stick_person() -> Outline:
    head = _regular(32) * 0.2 + (0.0, -0.8)
    limbs = (
        _beam(0.0, -0.62, 0.0, 0.25, 0.13),
        _beam(0.0, -0.4, -0.5, 0.02),
        _beam(0.0, -0.4, 0.5, 0.02),
        _beam(0.02, 0.18, -0.32, 0.98, 0.08),
        _beam(-0.02, 0.18, 0.32, 0.98, 0.08),
    )
    return (head, *limbs)


OUTLINES: dict[str, Outline] = {
    "circle": (_regular(72),),
    "square": (_regular(4, -45.0),),
    "triangle": (_regular(3),),
    "star": (_star(),),
    "heart": (_heart(),),
    "ring": (_regular(72), _regular(72) * RING_HOLE),
    "cross": (_plus(),),
    "diamond": (_regular(4) * np.array([0.68, 1.0]),),
    "person": _stick_person(),
}
