"""Figures: what is drawn. A figure is a few hashable numbers; `outline` turns it into geometry.

Frame: pixels, x to the right, y down; a pixel covers [i, i + 1). `size` is the longer side of the
figure's own bounding box after rotation, without its stroke.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from superlink.workflows.data.shapes.colors import Rgb
from superlink.workflows.data.shapes.parts import Disc, Part, Points, Polygon, bounds, placed, rotated, turn
from superlink.workflows.data.shapes.people import person

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "person")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing to draw."""

    shape: str
    color: str  # one of the twelve names
    rgb: Rgb
    cx: float  # centre of the bounding box
    cy: float
    size: float
    rotation: float = 0.0  # degrees, clockwise on the screen
    detail: float = 0.5  # [0, 1]: hole of a ring, arms of a cross, depth of a star, ...
    variant: int = 0  # kind of triangle, points of a star, curve of a heart, pose of a person
    stroke_rgb: Rgb | None = None
    stroke_width: float = 0.0
    hollow: bool = False  # only the stroke is painted
    texture: str = "plain"  # "plain", "gradient", "hatch", "speckle"
    accent_rgb: Rgb | None = None  # a person's face, where it differs


def outline(figure: Figure) -> tuple[Part, ...]:
    """The parts whose union is the figure, in pixels of the canvas."""
    return geometry(figure)[0]


@lru_cache(maxsize=128)
def geometry(figure: Figure) -> tuple[tuple[Part, ...], Points]:
    """Parts of the figure and, for a person, its 17 keypoints (else (0, 2)), in pixels."""
    if figure.shape == "person":
        parts, points = person(figure.variant, figure.detail)
    else:
        parts, points = (_SHAPES[figure.shape](figure),), np.zeros((0, 2))
    parts = tuple(rotated(part, figure.rotation) for part in parts)
    low, high = bounds(parts)
    scale = figure.size / float(max(high - low))
    middle = (low + high) / 2
    shift = np.array([figure.cx, figure.cy])
    moved = tuple(placed(part, middle, scale, shift) for part in parts)
    return moved, (points @ turn(figure.rotation) - middle) * scale + shift


def _circle(figure: Figure) -> Part:
    return Disc(0.0, 0.0, 1.0)


def _ring(figure: Figure) -> Part:
    return Disc(0.0, 0.0, 1.0, hole=0.45 + 0.33 * figure.detail)


def _square(figure: Figure) -> Part:
    return Polygon(np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))


def _diamond(figure: Figure) -> Part:
    height = 1.0 + 0.7 * figure.detail  # 1.0: a square standing on its corner
    return Polygon(np.array([[0.0, -height], [1.0, 0.0], [0.0, height], [-1.0, 0.0]]))


def _triangle(figure: Figure) -> Part:
    if figure.variant % 4 == 0:  # right-angled
        return Polygon(np.array([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))
    height = 3**0.5 if figure.variant % 4 < 3 else 1.4 + 0.9 * figure.detail
    return Polygon(np.array([[0.0, -height], [1.0, 0.0], [-1.0, 0.0]]))


def _star(figure: Figure) -> Part:
    points = (5, 5, 5, 5, 6)[figure.variant % 5]
    inner = 0.36 + 0.16 * figure.detail
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return Polygon(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def _heart(figure: Figure) -> Part:
    if figure.variant % 2 == 0:  # the sine-power heart curve
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return Polygon(np.stack([x / 16, y / 16], axis=1))
    # two half discs on a point; the lobes meet the straight sides as tangents
    arc = np.linspace(np.pi * 0.83, np.pi * 2, 13)
    left = np.stack([-0.5 + 0.5 * np.cos(arc), 0.5 * np.sin(arc)], axis=1)
    right = left[::-1] * np.array([-1.0, 1.0])
    tip = np.array([[0.0, 1.05 + 0.2 * figure.detail]])
    return Polygon(np.concatenate([left, right, tip]))


def _cross(figure: Figure) -> Part:
    arm = 0.22 + 0.18 * figure.detail
    quarter = np.array([[arm, -1.0], [arm, -arm], [1.0, -arm]])
    turns = (0, 90, 180, 270)
    return Polygon(np.concatenate([quarter @ turn(degrees) for degrees in turns]))


_SHAPES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
}
