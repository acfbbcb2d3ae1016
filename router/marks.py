"""Marks drawn on a picture: a circle, an arrow, a box or an outline instead of a region token.

A model that sees the marked picture reads it like any other ("the circled thing"); nothing else is
told to it. The picture itself is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw
from scipy.ndimage import binary_dilation

from superlink.router.errors import InputError
from superlink.router.messages import ImageArray, Prompt
from superlink.router.prompts import prompt_mask

MarkStyle = Literal["circle", "arrow", "box", "mask"]
STYLES: tuple[MarkStyle, ...] = ("circle", "arrow", "box", "mask")

LINE_WIDTH = 0.012  # of the picture's longer side, as are the arrows
ARROW_LENGTH = 0.18
WASH = 0.2  # how much of a painted area is ink: its own colour can still be told
_BARB = 0.35  # of the arrow's length
_SPREAD = 0.5  # radians between the arrow's shaft and its barbs
_SHAKE = 0.05  # of a hand, as a share of the circle that it draws
_ASIDE = 0.6  # most radians by which it turns an arrow


def draw_marks(
    image: ImageArray,
    prompts: Sequence[Prompt],
    *,
    style: MarkStyle = "circle",
    color: str = "red",
    hand: Random | None = None,
) -> ImageArray:
    """A copy of a picture with a mark for every prompt.

    Args:
        image: (H, W, 3) RGB.
        prompts: in pixels of the picture.
        style: "circle" = an ellipse around what is meant; "arrow" = one whose tip lies on it;
            "box" = a rectangle around it; "mask" = its outline, with a thin wash inside.
        color: as Pillow reads it: "red", "#e6194b".
        hand: one that draws: half of its circles are shaky and overshoot their start, its arrows come
            from somewhat aside. None: with compasses and ruler.

    Returns:
        (H, W, 3).

    Raises:
        InputError: no such style or colour, or a prompt that does not lie on the picture.
    """
    if style not in STYLES:
        raise InputError(f"a mark is {', '.join(STYLES)}, got {style!r}")
    try:
        ink = ImageColor.getrgb(color)[:3]
    except ValueError as error:
        raise InputError(f"{color!r} is no colour; say one like 'red' or '#e6194b'") from error
    height, width = image.shape[:2]
    line = max(2, round(LINE_WIDTH * max(height, width)))
    marked = image.copy()
    for prompt in prompts:
        mask = prompt_mask(prompt, (height, width))
        if style == "mask":
            area = marked[mask].astype(np.float32)
            marked[mask] = (area + WASH * (np.asarray(ink, np.float32) - area)).astype(np.uint8)
            marked[binary_dilation(mask, iterations=line) & ~mask] = ink
        else:
            canvas = Image.fromarray(marked)
            _draw(ImageDraw.Draw(canvas), style, mask, ink, line, hand)
            marked = np.array(canvas, dtype=np.uint8)
    return marked


def _draw(
    brush: ImageDraw.ImageDraw,
    style: MarkStyle,
    mask: NDArray[np.bool_],
    ink: tuple[int, ...],
    line: int,
    hand: Random | None,
) -> None:
    """A mark around the mask, with a gap so that what is meant can be seen."""
    lines, columns = np.nonzero(mask)
    left, right = float(columns.min()), float(columns.max()) + 1
    top, bottom = float(lines.min()), float(lines.max()) + 1
    x, y, gap = (left + right) / 2, (top + bottom) / 2, 2.0 + line
    if style == "box":
        height, width = mask.shape
        corners = (left - gap, top - gap, right + gap, bottom + gap)
        if max(corners[0], corners[1]) < 0 and corners[2] > width - 1 and corners[3] > height - 1:
            corners = (0.0, 0.0, width - 1.0, height - 1.0)  # all of it would lie outside of the picture
        brush.rectangle(corners, outline=ink, width=line)
    elif style == "circle":
        across, down = 0.6 * (right - left) + gap, 0.6 * (bottom - top) + gap
        if hand is None:
            brush.ellipse((x - across, y - down, x + across, y + down), outline=ink, width=line)
        else:
            loop = [(x + across * one, y + down * other) for one, other in _loop(hand)]
            brush.line(loop, fill=ink, width=line, joint="curve")
    else:
        # The pixel of the mask nearest to its middle: that of a ring is not on the ring.
        nearest = int(np.argmin(np.hypot(columns + 0.5 - x, lines + 0.5 - y)))
        tip = (float(columns[nearest]), float(lines[nearest]))
        turned = 0.0 if hand is None else hand.uniform(-_ASIDE, _ASIDE)
        _arrow(brush, tip, (mask.shape[0], mask.shape[1]), ink, line, turned)


def _loop(hand: Random) -> list[tuple[float, float]]:
    """A circle of radius 1 around (0, 0) as a line from anywhere."""
    shake = _SHAKE if hand.random() < 0.5 else 0.0
    start, turns = hand.uniform(0, 2 * math.pi), 1.0 + 2 * shake
    points = []
    for step in range(33):
        angle = start + turns * 2 * math.pi * step / 32
        reach = 1 + hand.uniform(-shake, shake)
        points.append((reach * math.cos(angle), reach * math.sin(angle)))
    return points


def _arrow(
    brush: ImageDraw.ImageDraw,
    tip: tuple[float, float],
    size: tuple[int, int],
    ink: tuple[int, ...],
    line: int,
    turned: float,
) -> None:
    """An arrow from the middle of the picture, where there is room for it; `turned` by radians."""
    height, width = size
    length = ARROW_LENGTH * max(size)
    direction = math.atan2(height / 2 - tip[1], width / 2 - tip[0]) + turned
    for angle, far in ((0.0, length), (-_SPREAD, _BARB * length), (_SPREAD, _BARB * length)):
        end = (tip[0] + far * math.cos(direction + angle), tip[1] + far * math.sin(direction + angle))
        brush.line((tip, end), fill=ink, width=line)
