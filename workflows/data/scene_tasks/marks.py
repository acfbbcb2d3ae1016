"""Visual marks that people draw onto a picture, in any ink that can be told from what is marked."""

from __future__ import annotations

import math
from random import Random

from superlink.router.marks import MarkStyle, draw_marks
from superlink.router.messages import ImageArray, Mask
from superlink.workflows.data.shapes import SceneObject

MARKS: tuple[MarkStyle, ...] = ("circle", "box", "arrow", "mask")  # in the order that streams draw from
_INKS = ((255, 0, 0), (0, 220, 0), (0, 80, 255), (255, 0, 255), (255, 220, 0), (0, 0, 0))


def marked(rng: Random, image: ImageArray, item: SceneObject, mark: MarkStyle) -> ImageArray:
    """A copy of the picture (H, W, 3) with one object marked by hand."""
    ink = max(rng.sample(_INKS, 3), key=lambda one: math.dist(one, item.figure.rgb))
    return draw_marks(image, [Mask(item.mask)], style=mark, color=f"rgb{ink}", hand=rng)
