"""Parts: the three primitives that every figure is made of, and how to move them.

Frame: pixels, x to the right, y down; a pixel covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 2) x, y


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    points: Points


@dataclass(frozen=True, slots=True, eq=False)
class Disc:
    x: float
    y: float
    radius: float
    hole: float = 0.0  # radius of the hole


@dataclass(frozen=True, slots=True, eq=False)
class Capsule:
    x0: float
    y0: float
    x1: float
    y1: float
    radius: float


Part = Polygon | Disc | Capsule


def bounds(parts: tuple[Part, ...]) -> tuple[Points, Points]:
    """Lower and upper corner (2,) of the union of `parts`."""
    lows, highs = [], []
    for part in parts:
        if isinstance(part, Polygon):
            lows.append(part.points.min(axis=0))
            highs.append(part.points.max(axis=0))
        elif isinstance(part, Disc):
            lows.append(np.array([part.x - part.radius, part.y - part.radius]))
            highs.append(np.array([part.x + part.radius, part.y + part.radius]))
        else:
            xs, ys, r = (part.x0, part.x1), (part.y0, part.y1), part.radius
            lows.append(np.array([min(xs) - r, min(ys) - r]))
            highs.append(np.array([max(xs) + r, max(ys) + r]))
    return np.min(lows, axis=0), np.max(highs, axis=0)


def turn(degrees: float) -> Points:
    """Right-multiplied rotation, clockwise on a screen whose y runs down."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def rotated(part: Part, degrees: float) -> Part:
    if degrees == 0:
        return part
    matrix = turn(degrees)
    if isinstance(part, Polygon):
        return Polygon(part.points @ matrix)
    if isinstance(part, Disc):
        x, y = np.array([part.x, part.y]) @ matrix
        return Disc(float(x), float(y), part.radius, part.hole)
    ends = np.array([[part.x0, part.y0], [part.x1, part.y1]]) @ matrix
    x0, y0, x1, y1 = (float(v) for v in ends.ravel())
    return Capsule(x0, y0, x1, y1, part.radius)


def placed(part: Part, middle: Points, scale: float, shift: Points) -> Part:
    if isinstance(part, Polygon):
        return Polygon((part.points - middle) * scale + shift)
    if isinstance(part, Disc):
        x, y = (np.array([part.x, part.y]) - middle) * scale + shift
        return Disc(float(x), float(y), part.radius * scale, part.hole * scale)
    ends = (np.array([[part.x0, part.y0], [part.x1, part.y1]]) - middle) * scale + shift
    x0, y0, x1, y1 = (float(v) for v in ends.ravel())
    return Capsule(x0, y0, x1, y1, part.radius * scale)
