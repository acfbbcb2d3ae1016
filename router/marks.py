"""Marks drawn on a picture: a circle, an arrow, a box or an outline instead of a region token.

A model that sees the marked picture reads it like any other ("the circled thing"); nothing else is
told to it. The picture itself is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from superlink.router.errors import InputError
from superlink.router.messages import ImageArray, Prompt
from superlink.router.prompts import prompt_mask

MarkStyle = Literal["circle", "arrow", "box", "mask"]
STYLES: tuple[MarkStyle, ...] = ("circle", "arrow", "box", "mask")

LINE_WIDTH = 0.01  # of the picture's longer side
ARROW_LENGTH = 0.2  # of the picture's shorter side
_HEAD = 0.4  # of the arrow's length
_SPREAD = math.radians(25)  # between the arrow's shaft and the sides of its head

# A dark rim below the colour: red on red would not be seen.
_RIM = (0, 0, 0)


def draw_marks(
    image: ImageArray,
    prompts: Sequence[Prompt],
    *,
    style: MarkStyle = "circle",
    color: str = "#e6194b",
) -> ImageArray:
    """A copy of a picture with a mark for every prompt.

    Args:
        image: (H, W, 3) RGB.
        prompts: in pixels of the picture.
        style: "circle" = an ellipse around what is meant; "arrow" = its tip in the middle of it;
            "box" = the rectangle around it; "mask" = its outline.
        color: as Pillow reads it: "red", "#e6194b".

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
    line = max(1, round(LINE_WIDTH * max(height, width)))
    marked = Image.fromarray(image)
    for prompt in prompts:
        mask = prompt_mask(prompt, (height, width))
        if style == "mask":
            marked = _outlined(marked, mask, ink, line)
        else:
            brush = ImageDraw.Draw(marked)
            for paint, thickness in ((_RIM, line + 2), (ink, line)):
                _draw(brush, style, mask, paint, thickness)
    return np.array(marked, dtype=np.uint8)


def _draw(
    brush: ImageDraw.ImageDraw, style: MarkStyle, mask: NDArray[np.bool_], ink: tuple[int, ...], line: int
) -> None:
    lines, columns = np.nonzero(mask)
    left, right = float(columns.min()), float(columns.max())
    top, bottom = float(lines.min()), float(lines.max())
    middle, half = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
    if style == "box":
        brush.rectangle((left, top, right, bottom), outline=ink, width=line)
    elif style == "circle":
        # An ellipse through the corners of a box is larger than it by the square root of two.
        x, y = (side * math.sqrt(2) + line for side in half)
        corners = (middle[0] - x, middle[1] - y, middle[0] + x, middle[1] + y)
        brush.ellipse(corners, outline=ink, width=line)
    else:
        # The pixel of the mask nearest to its middle: that of a ring is not on the ring.
        nearest = int(np.argmin(np.hypot(columns - middle[0], lines - middle[1])))
        tip = (float(columns[nearest]), float(lines[nearest]))
        _arrow(brush, tip, (mask.shape[0], mask.shape[1]), ink, line)


def _arrow(
    brush: ImageDraw.ImageDraw,
    tip: tuple[float, float],
    size: tuple[int, int],
    ink: tuple[int, ...],
    line: int,
) -> None:
    """An arrow that comes from the middle of the picture's farther side, so that it lies on the picture."""
    height, width = size
    length = ARROW_LENGTH * min(size)
    direction = math.atan2(1 if tip[1] < height / 2 else -1, 1 if tip[0] < width / 2 else -1)

    def away(angle: float, far: float) -> tuple[float, float]:
        return tip[0] + far * math.cos(angle), tip[1] + far * math.sin(angle)

    brush.line((tip, away(direction, length)), fill=ink, width=line)
    for side in (-_SPREAD, _SPREAD):
        brush.line((tip, away(direction + side, _HEAD * length)), fill=ink, width=line)


def _outlined(picture: Image.Image, mask: NDArray[np.bool_], ink: tuple[int, ...], line: int) -> Image.Image:
    pixels = np.array(picture)
    # The rim lies outside of the mask, the colour inside: what is meant stays what is enclosed.
    pixels[_grown(mask, 1) & ~mask] = _RIM
    pixels[mask & ~_grown(mask, -line)] = ink
    return Image.fromarray(pixels)


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """A mask with `steps` more pixels around it, or fewer; outside of the picture counts as neither."""
    grown = mask if steps > 0 else ~mask
    for _ in range(abs(steps)):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    return grown if steps > 0 else ~grown
