"""Backgrounds: plain (white most often, as other programs draw), patterned, and with scribbles.

A background is a few hashable numbers and a seed, so the same one can be painted again after an
edit. `colors` are those that objects must stand out from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from superlink.workflows.data.shapes.colors import Rgb, shade

Canvas = NDArray[np.float32]  # (H, W, 3) in [0, 255]
_KINDS = ("plain", "gradient", "stripes", "checker", "noise", "texture")
_KIND_ODDS = (0.58, 0.12, 0.07, 0.06, 0.09, 0.08)
_CLUTTER = ("none", "grid", "axes", "scribbles", "text", "frame")
_CLUTTER_ODDS = (0.66, 0.09, 0.10, 0.05, 0.05, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    kind: str  # "plain", "gradient", "stripes", "checker", "noise", "texture"
    colors: tuple[Rgb, ...]  # one, or two for what has two
    clutter: str = "none"  # "grid", "axes", "scribbles", "text", "frame"
    seed: int = 0


def sample_background(rng: Generator) -> Background:
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_KIND_ODDS))]
    clutter = _CLUTTER[int(rng.choice(len(_CLUTTER), p=_CLUTTER_ODDS))]
    base = _base_color(rng, white=0.52 if kind == "plain" else 0.2)
    colors = (base,) if kind in ("plain", "noise", "texture") else (base, _partner(rng, base))
    return Background(kind=kind, colors=colors, clutter=clutter, seed=int(rng.integers(1 << 30)))


def _base_color(rng: Generator, white: float) -> Rgb:
    if rng.random() < white:
        return (255, 255, 255)
    style = rng.random()
    if style < 0.3:  # light gray, or the pale tints of plotting styles
        level = int(rng.integers(222, 252))
        tint = rng.integers(-6, 7, size=3)
        return _rgb(np.clip(level + tint, 0, 255))
    if style < 0.5:  # dark
        level = int(rng.integers(0, 60))
        return _rgb(np.clip(level + rng.integers(-8, 22, size=3), 0, 255))
    if style < 0.78:  # pastel
        return _rgb(rng.integers(175, 256, size=3))
    if style < 0.86:
        level = int(rng.integers(90, 200))
        return (level, level, level)
    return _rgb(rng.integers(20, 240, size=3))


def _rgb(values: NDArray[np.int64]) -> Rgb:
    return (int(values[0]), int(values[1]), int(values[2]))


def _partner(rng: Generator, base: Rgb) -> Rgb:
    """A neighbour of `base`: patterns stay calm enough for objects to stand out."""
    strength = float(rng.uniform(0.1, 0.35))
    return shade(base, 1 - strength) if sum(base) > 300 else shade(base, 1 + strength)


def paint_background(background: Background, height: int, width: int) -> Canvas:
    """The background as a fresh (H, W, 3) float canvas."""
    rng = np.random.default_rng(background.seed)
    canvas = _PAINTERS[background.kind](rng, background.colors, height, width)
    if background.clutter != "none":
        picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
        ink = shade(background.colors[0], 0.45 if sum(background.colors[0]) > 300 else 1.5)
        draw = ImageDraw.Draw(picture)
        _CLUTTERERS[background.clutter](rng, draw, ink, background.colors[0], height, width)
        canvas = np.asarray(picture, dtype=np.float32).copy()
    return canvas


def _plain(rng: Generator, colors: tuple[Rgb, ...], height: int, width: int) -> Canvas:
    canvas = np.empty((height, width, 3), dtype=np.float32)
    canvas[:] = colors[0]
    return canvas


def _gradient(rng: Generator, colors: tuple[Rgb, ...], height: int, width: int) -> Canvas:
    xs = np.linspace(-1, 1, width, dtype=np.float32)
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    if rng.random() < 0.3:
        blend = np.sqrt(xs**2 + ys**2) / np.float32(2**0.5)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        blend = (c * xs + s * ys) / np.float32(abs(c) + abs(s)) / 2 + np.float32(0.5)
    return _mix(colors, blend)


def _stripes(rng: Generator, colors: tuple[Rgb, ...], height: int, width: int) -> Canvas:
    period = np.float32(rng.uniform(8, 48))
    angle = float(rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]))
    xs = np.arange(width, dtype=np.float32) * np.float32(np.cos(angle))
    ys = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return _mix(colors, (((xs + ys) / period) % 1 < 0.5).astype(np.float32))


def _checker(rng: Generator, colors: tuple[Rgb, ...], height: int, width: int) -> Canvas:
    cell = int(rng.integers(8, 40))
    board = (np.arange(width) // cell + np.arange(height)[:, None] // cell) % 2
    return _mix(colors, board.astype(np.float32))


def _noise(rng: Generator, colors: tuple[Rgb, ...], height: int, width: int) -> Canvas:
    canvas = _plain(rng, colors, height, width)
    sigma = np.float32(rng.uniform(4, 22))
    if rng.random() < 0.6:
        canvas += sigma * rng.standard_normal((height, width, 1), dtype=np.float32)
    else:
        canvas += sigma * rng.standard_normal((height, width, 3), dtype=np.float32)
    return canvas


def _texture(rng: Generator, colors: tuple[Rgb, ...], height: int, width: int) -> Canvas:
    """Soft blotches: coarse noise enlarged smoothly, like paper or clouds."""
    cells = int(rng.integers(4, 28))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    blotches = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    canvas = _plain(rng, colors, height, width)
    canvas += np.asarray(blotches)[:, :, None] * np.float32(rng.uniform(5, 18))
    return canvas


def _mix(colors: tuple[Rgb, ...], blend: Canvas) -> Canvas:
    first = np.asarray(colors[0], dtype=np.float32)
    second = np.asarray(colors[1], dtype=np.float32)
    return first + blend[:, :, None] * (second - first)


def _grid(rng: Generator, draw: ImageDraw.ImageDraw, ink: Rgb, paper: Rgb, height: int, width: int) -> None:
    step = int(rng.integers(14, 60))
    pale = shade(ink, 1.55) if sum(ink) < 400 else shade(ink, 0.6)
    for x in range(int(rng.integers(step)), width, step):
        draw.line([(x, 0), (x, height)], fill=pale)
    for y in range(int(rng.integers(step)), height, step):
        draw.line([(0, y), (width, y)], fill=pale)


def _axes(rng: Generator, draw: ImageDraw.ImageDraw, ink: Rgb, paper: Rgb, height: int, width: int) -> None:
    """A plot's frame with ticks, numbers and sometimes a title, as plotting programs draw it."""
    left, top = round(width * rng.uniform(0.08, 0.14)), round(height * rng.uniform(0.05, 0.13))
    right, bottom = round(width * rng.uniform(0.88, 0.98)), round(height * rng.uniform(0.86, 0.92))
    if rng.random() < 0.4:
        draw.rectangle([left, top, right, bottom], fill=shade(paper, 0.92))
    draw.rectangle([left, top, right, bottom], outline=ink)
    font = _font(int(rng.integers(7, 12)))
    ticks = int(rng.integers(4, 8))
    for index in range(ticks):
        x = left + (right - left) * index // (ticks - 1)
        y = bottom - (bottom - top) * index // (ticks - 1)
        label = f"{index * 2}" if rng.random() < 0.5 else f"{index / 10:.1f}"
        draw.line([(x, bottom), (x, bottom + 3)], fill=ink)
        draw.line([(left - 3, y), (left, y)], fill=ink)
        draw.text((x, bottom + 4), label, fill=ink, font=font, anchor="ma")
        draw.text((left - 5, y), label, fill=ink, font=font, anchor="rm")
    if rng.random() < 0.4:
        draw.text(((left + right) / 2, top - 2), _word(rng), fill=ink, font=font, anchor="md")


def _scribbles(
    rng: Generator, draw: ImageDraw.ImageDraw, ink: Rgb, paper: Rgb, height: int, width: int
) -> None:
    for _ in range(int(rng.integers(1, 7))):
        steps = rng.normal(0, 0.09, size=(int(rng.integers(2, 7)), 2)).cumsum(axis=0)
        path = (rng.random(2) + steps) * (width, height)
        draw.line([(float(x), float(y)) for x, y in path], fill=ink, width=int(rng.integers(1, 3)))


def _words(rng: Generator, draw: ImageDraw.ImageDraw, ink: Rgb, paper: Rgb, height: int, width: int) -> None:
    for _ in range(int(rng.integers(1, 5))):
        spot = (float(rng.uniform(0, 0.8) * width), float(rng.uniform(0, 0.94) * height))
        draw.text(spot, _word(rng), fill=ink, font=_font(int(rng.integers(7, 18))))


def _frame(rng: Generator, draw: ImageDraw.ImageDraw, ink: Rgb, paper: Rgb, height: int, width: int) -> None:
    inset = int(rng.integers(0, 9))
    draw.rectangle(
        [inset, inset, width - 1 - inset, height - 1 - inset], outline=ink, width=int(rng.integers(1, 5))
    )


def _word(rng: Generator) -> str:
    letters = "abcdefghijklmnoprstuvxyz0123456789"
    return "".join(letters[i] for i in rng.integers(len(letters), size=int(rng.integers(2, 11))))


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


_PAINTERS: dict[str, Callable[[Generator, tuple[Rgb, ...], int, int], Canvas]] = {
    "plain": _plain,
    "gradient": _gradient,
    "stripes": _stripes,
    "checker": _checker,
    "noise": _noise,
    "texture": _texture,
}
_CLUTTERERS: dict[str, Callable[[Generator, ImageDraw.ImageDraw, Rgb, Rgb, int, int], None]] = {
    "grid": _grid,
    "axes": _axes,
    "scribbles": _scribbles,
    "text": _words,
    "frame": _frame,
}
