"""The embedded model, and a drawn picture whose contents are known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw

from superlink.agents.system import System, load

TINY = Path(__file__).parents[2] / "superlink" / "weights" / "tiny"

# Drawn as it says, x0 y0 x1 y1.
LEFT, RIGHT, SQUARE = (20, 40, 80, 100), (160, 60, 220, 120), (95, 20, 145, 70)


@cache
def tiny() -> System:
    return load(TINY)


def drawn() -> Image.Image:
    """Two red circles and a blue square on white."""
    picture = Image.new("RGB", (240, 180), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse(LEFT, fill=(220, 30, 30))
    pen.ellipse(RIGHT, fill=(220, 30, 30))
    pen.rectangle(SQUARE, fill=(30, 60, 220))
    return picture
