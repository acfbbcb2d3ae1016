"""Plain figures: one form of every shape and one shade of every colour, upright.

What words leave open, a model that makes pictures can only learn as one of many. Small ones that learn from
pictures in which much is left open paint blobs; from these they learn what the words do say.
"""

from __future__ import annotations

from superlink.workflows.data.shapes.colors import Rgb
from superlink.workflows.data.shapes.figures import Figure

# Most are Material Design's; those of its shades that other programs give other names to are not.
SHADES: dict[str, Rgb] = {
    "red": (229, 57, 53),
    "orange": (255, 152, 0),
    "yellow": (255, 235, 59),
    "green": (67, 160, 71),
    "cyan": (0, 206, 209),
    "blue": (30, 110, 229),
    "purple": (142, 36, 170),
    "pink": (255, 105, 180),
    "brown": (121, 72, 45),
    "black": (20, 20, 20),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
}
POSES = (1, 4, 7)  # of a person
_VARIANTS = {"triangle": 1, "star": 0, "heart": 1}  # two equal sides, five points, round lobes
_DETAIL = 0.35  # of the forms that have one: ring, cross, star, diamond


def plain_figure(shape: str, color: str, *, cx: float, cy: float, size: float, pose: int = 0) -> Figure:
    """A figure in pixels, as `Figure`.

    Args:
        pose: of a person, an index of `POSES`.
    """
    return Figure(
        shape=shape,
        color=color,
        rgb=SHADES[color],
        cx=cx,
        cy=cy,
        size=size,
        detail=_DETAIL,
        variant=POSES[pose] if shape == "person" else _VARIANTS.get(shape, 0),
    )
