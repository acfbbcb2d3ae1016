"""Visual marks that people draw onto a picture: a circle, a box, an arrow, a painted area."""

from __future__ import annotations

import math
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from superlink.router.messages import ImageArray
from superlink.workflows.data.shapes import SceneObject

Mark = Literal["circle", "box", "arrow", "mask"]
MARKS: tuple[Mark, ...] = ("circle", "box", "arrow", "mask")
_INKS = ((255, 0, 0), (0, 220, 0), (0, 80, 255), (255, 0, 255), (255, 220, 0), (0, 0, 0))
_WASH = 0.2  # how much of a painted area is ink: its own colour can still be told


def marked(rng: Random, image: ImageArray, item: SceneObject, mark: Mark) -> ImageArray:
    """A copy of the picture (H, W, 3) with one object marked; circles are drawn by hand half of the time."""
    ink = max(rng.sample(_INKS, 3), key=lambda one: math.dist(one, item.figure.rgb))
    width = max(2, round(0.012 * max(image.shape[:2])))
    if mark == "mask":
        return _painted_over(image, item, np.asarray(ink, np.uint8), width)
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    x0, y0, x1, y1 = item.box
    gap = 2.0 + width
    if mark == "box":
        draw.rectangle((x0 - gap, y0 - gap, x1 + gap, y1 + gap), outline=ink, width=width)
    elif mark == "circle":
        draw.line(_loop(rng, item, gap), fill=ink, width=width, joint="curve")
    else:
        _arrow(rng, draw, item, ink, width, image.shape[:2])
    return np.asarray(canvas)


def _painted_over(image: ImageArray, item: SceneObject, ink: NDArray[np.uint8], width: int) -> ImageArray:
    """The object under a thin wash, with a line around it."""
    painted = image.copy()
    area = painted[item.mask].astype(np.float32)
    painted[item.mask] = (area + _WASH * (ink - area)).astype(np.uint8)
    painted[binary_dilation(item.mask, iterations=width) & ~item.mask] = ink
    return painted


def _loop(rng: Random, item: SceneObject, gap: float) -> list[tuple[float, float]]:
    """A closed line around the box: an ellipse, or a shaky one that does not quite meet its start."""
    (cx, cy), (x0, y0, x1, y1) = item.center, item.box
    rx, ry = (x1 - x0) / 2 * 1.2 + gap, (y1 - y0) / 2 * 1.2 + gap
    shake = 0.05 if rng.random() < 0.5 else 0.0
    start, turns = rng.uniform(0, 2 * math.pi), 1.0 + 2 * shake
    points = []
    for step in range(33):
        angle = start + turns * 2 * math.pi * step / 32
        reach = 1 + rng.uniform(-shake, shake)
        points.append((cx + reach * rx * math.cos(angle), cy + reach * ry * math.sin(angle)))
    return points


def _arrow(
    rng: Random,
    draw: ImageDraw.ImageDraw,
    item: SceneObject,
    ink: tuple[int, int, int],
    width: int,
    size: tuple[int, ...],
) -> None:
    """An arrow whose tip touches the object, from the side that has room."""
    height, length = size[0], 0.18 * max(size)
    rows, columns = np.nonzero(item.mask)
    pick = int(np.argmin((columns - item.center[0]) ** 2 + (rows - item.center[1]) ** 2))
    tip = (float(columns[pick]), float(rows[pick]))
    toward = math.atan2(height / 2 - tip[1], size[1] / 2 - tip[0]) + rng.uniform(-0.6, 0.6)
    tail = (tip[0] + length * math.cos(toward), tip[1] + length * math.sin(toward))
    draw.line((tail, tip), fill=ink, width=width)
    for side in (-0.5, 0.5):
        barb = (
            tip[0] + 0.35 * length * math.cos(toward + side),
            tip[1] + 0.35 * length * math.sin(toward + side),
        )
        draw.line((barb, tip), fill=ink, width=width)
