"""Visual prompts to masks: a click, a box, a line or a painted area becomes the pixels it means.

Pixel (x, y) covers [x, x + 1) x [y, y + 1) of the original, upright picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from superlink.router.errors import InputError
from superlink.router.messages import Box, Mask, Point, Prompt, Scribble

POINT_RADIUS = 0.02  # of the picture's longer side: 4.5 pixels at 224


def prompt_mask(prompt: Prompt, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels that a visual prompt means.

    Args:
        prompt: in pixels of the picture.
        size: (height, width) of the picture.

    Returns:
        (H, W) with at least one true pixel. Boxes include their right and bottom pixels; what
        hangs over the picture's edge is cut off.

    Raises:
        InputError: the prompt lies outside the picture, is empty, or holds no finite numbers.
    """
    if isinstance(prompt, Point):
        return _point_mask(prompt, size)
    if isinstance(prompt, Box):
        return _box_mask(prompt, size)
    if isinstance(prompt, Scribble):
        return _scribble_mask(prompt, size)
    return _painted_mask(prompt, size)


def plain_prompt(prompt: Prompt) -> Prompt:
    """The same prompt in numbers of Python and in booleans: what sessions can keep.

    Raises:
        InputError: its coordinates are no numbers.
    """
    try:
        match prompt:
            case Point():
                return Point(float(prompt.x), float(prompt.y))
            case Box():
                return Box(float(prompt.x0), float(prompt.y0), float(prompt.x1), float(prompt.y1))
            case Scribble():
                return Scribble(tuple((float(x), float(y)) for x, y in prompt.points))
            case Mask():
                given: object = prompt.mask  # what is no array is refused where its size is known
                if isinstance(given, np.ndarray) and given.dtype != np.bool_:
                    return Mask(given.astype(np.bool_))
                return prompt
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"a {type(prompt).__name__.lower()} is made of numbers: {reason}") from error


def _point_mask(point: Point, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    if not (0 <= point.x < width and 0 <= point.y < height):
        raise InputError(
            f"point ({point.x:g}, {point.y:g}) lies outside the picture of {width} x {height} pixels"
        )
    mask = _draw_line([(point.x, point.y)], size)
    mask[int(point.y), int(point.x)] = True
    return mask


def _box_mask(box: Box, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    words = f"box ({box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g})"
    if not all(math.isfinite(value) for value in (box.x0, box.y0, box.x1, box.y1)):
        raise InputError(f"{words} holds numbers that are not finite")
    if box.x0 > box.x1 or box.y0 > box.y1:
        raise InputError(f"{words} is inside out; expected left <= right and top <= bottom")
    if box.x1 < 0 or box.y1 < 0 or box.x0 >= width or box.y0 >= height:
        raise InputError(f"{words} lies outside the picture of {width} x {height} pixels")
    mask = np.zeros(size, dtype=np.bool_)
    left, top = max(math.floor(box.x0), 0), max(math.floor(box.y0), 0)
    mask[top : math.floor(box.y1) + 1, left : math.floor(box.x1) + 1] = True
    return mask


def _scribble_mask(scribble: Scribble, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    if not scribble.points:
        raise InputError("a scribble needs at least one point, got none")
    if not all(math.isfinite(value) for point in scribble.points for value in point):
        raise InputError("a scribble holds numbers that are not finite")
    if not any(0 <= x < width and 0 <= y < height for x, y in scribble.points):
        x, y = scribble.points[0]
        raise InputError(
            f"scribble from ({x:g}, {y:g}) with {len(scribble.points)} points lies outside "
            f"the picture of {width} x {height} pixels"
        )
    inside = [(min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)) for x, y in scribble.points]
    return _draw_line(inside, size)


def _painted_mask(prompt: Mask, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    given: object = prompt.mask
    if not isinstance(given, np.ndarray):
        raise InputError(f"a mask prompt holds an array of booleans, got {type(given).__name__}")
    if prompt.mask.shape != size:
        raise InputError(
            f"a mask prompt must be as large as its picture, {width} x {height} pixels; "
            f"got an array of shape {prompt.mask.shape}"
        )
    if not prompt.mask.any():
        raise InputError("a mask prompt needs at least one pixel, got an empty mask")
    return prompt.mask.astype(np.bool_)


def _draw_line(points: list[tuple[float, float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A line as wide as a click, with round ends and corners; one point is a disc."""
    height, width = size
    radius = max(POINT_RADIUS * max(size), 1.0)
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    if len(points) > 1:
        draw.line(points, fill=1, width=max(round(2 * radius), 1))
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.array(picture, dtype=np.bool_)
