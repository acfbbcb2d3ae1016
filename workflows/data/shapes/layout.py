"""Where figures go: sampled back to front, each keeping most of its pixels in view."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from superlink.workflows.data.shapes.backgrounds import Background
from superlink.workflows.data.shapes.colors import COLOR_NAMES, Rgb, lab_distance, sample_color, shade
from superlink.workflows.data.shapes.figures import SHAPES, Figure
from superlink.workflows.data.shapes.raster import Layer, rasterize

MIN_VISIBLE = 0.62  # of a figure's own pixels, after the canvas and later figures have cut it
SMALL, LARGE = (0.15, 0.17), (0.25, 0.29)  # gaps between the size words, in sides of the picture
_SKIN: tuple[Rgb, ...] = ((255, 224, 189), (234, 192, 134), (198, 134, 66), (141, 85, 36))
_TEXTURES = ("plain", "gradient", "hatch", "speckle")
_TEXTURE_ODDS = (0.74, 0.13, 0.06, 0.07)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneConfig:
    """What scenes are drawn from. Sizes are in sides of the picture (the root of its area)."""

    height: int = 224
    width: int = 224
    min_objects: int = 1
    max_objects: int = 9
    min_size: float = 0.085
    max_size: float = 0.45
    shapes: tuple[str, ...] = SHAPES
    colors: tuple[str, ...] = COLOR_NAMES
    effects: float = 1.0  # 0 = clean pictures
    other_canvas: float = 0.3  # share of canvases that are longer, or larger with finer lines


@dataclass(slots=True)
class _Taken:
    """What the canvas holds so far."""

    figures: list[Figure]
    layers: list[Layer]
    owner: NDArray[np.int16]  # (H, W) index of the topmost figure, -1 for background
    visible: list[int]


def sample_canvas(rng: Generator, config: SceneConfig) -> tuple[int, int]:
    """(height, width): most often as configured, else one side shortened, or both enlarged.

    Whoever reads pictures scales the longer side down, so both make objects smaller to the eye.
    """
    height, width = config.height, config.width
    if rng.random() >= config.other_canvas:
        return height, width
    scale = float(rng.uniform(1.0, 1.15)) if rng.random() < 0.75 else float(rng.uniform(1.15, 1.8))
    short = float(rng.uniform(0.55, 1.0)) if rng.random() < 0.8 else 1.0
    if rng.random() < 0.6:
        return round(height * scale * short), round(width * scale)
    return round(height * scale), round(width * scale * short)


def size_word(relative: float) -> str | None:
    """The word for a figure of this size in sides of the picture; None in the gaps."""
    if relative <= SMALL[0]:
        return "small"
    if SMALL[1] <= relative <= LARGE[0]:
        return "medium"
    return "large" if relative >= LARGE[1] else None


def sample_figures(
    rng: Generator, config: SceneConfig, background: Background, rasterizer: str, height: int, width: int
) -> tuple[Figure, ...]:
    """Figures in painter's order, at least one."""
    wanted = _count(rng, config)
    shapes, colors = _pools(rng, config)
    crowded = bool(rng.random() < 0.4)  # figures may overlap
    side = (height * width) ** 0.5
    sizes = np.array([_size(rng, config, wanted) for _ in range(wanted)])
    if rng.random() < 0.8:
        sizes = np.sort(sizes)[::-1]
    taken = _Taken([], [], np.full((height, width), -1, dtype=np.int16), [])
    for relative in sizes:
        for attempt in range(10):
            shrink = 1.0 if attempt < 6 else 0.7
            size = max(float(relative) * shrink, config.min_size)
            if size_word(size) is None:
                continue
            figure = _place(rng, _figure(rng, shapes, colors, background, size, side), height, width)
            if _add(figure, taken, rasterizer, crowded):
                break
    if not taken.figures:
        plain = _figure(rng, config.shapes, config.colors, background, 0.22, side)
        return (replace(plain, cx=width / 2, cy=height / 2),)
    return tuple(taken.figures)


def _count(rng: Generator, config: SceneConfig) -> int:
    choices = np.arange(config.min_objects, config.max_objects + 1)
    odds = 1.0 / (1.0 + np.abs(choices - 3.5) / 3.0)
    return int(rng.choice(choices, p=odds / odds.sum()))


def _pools(rng: Generator, config: SceneConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Half of the scenes repeat a few shapes and colours, so that classes have many members."""
    shapes, colors = config.shapes, config.colors
    if rng.random() < 0.5:
        shapes = tuple(rng.choice(shapes, size=min(len(shapes), int(rng.integers(1, 5))), replace=False))
    if rng.random() < 0.5:
        colors = tuple(rng.choice(colors, size=min(len(colors), int(rng.integers(1, 5))), replace=False))
    return tuple(str(s) for s in shapes), tuple(str(c) for c in colors)


def _size(rng: Generator, config: SceneConfig, count: int) -> float:
    high = max(config.min_size * 1.2, config.max_size * min(1.0, (4.5 / count) ** 0.5))
    while True:
        size = float(np.exp(rng.uniform(np.log(config.min_size), np.log(high))))
        if size_word(size) is not None:
            return size


def has_room(figure: Figure, figures: tuple[Figure, ...], rasterizer: str, canvas: tuple[int, int]) -> bool:
    """Whether one more figure can stand on a canvas (height, width) beside `figures`, touching none."""
    taken = _Taken([], [], np.full(canvas, -1, dtype=np.int16), [])
    for index, other in enumerate(figures):
        layer = rasterize(other, rasterizer, *canvas)
        taken.owner[layer.window][layer.mask] = index
        taken.figures.append(other)
        taken.layers.append(layer)
        taken.visible.append(int(layer.mask.sum()))
    return _add(figure, taken, rasterizer, crowded=False)


def _figure(
    rng: Generator,
    shapes: tuple[str, ...],
    colors: tuple[str, ...],
    background: Background,
    relative: float,
    side: float,
) -> Figure:
    """A figure of `relative * side` pixels that stands out from the background; not placed yet."""
    shape = shapes[int(rng.integers(len(shapes)))]
    if shape == "person":  # thin limbs need some length
        taller = max(0.14, min(1.3 * relative, 0.58))
        relative = taller if size_word(taller) is not None else max(0.14, relative)
    size = relative * side
    color, rgb, stroke_rgb = _paint(rng, colors, background)
    stroke_width, hollow = 0.0, False
    if stroke_rgb is not None:
        stroke_width = float(rng.uniform(1.0, max(1.6, 0.05 * size)))
    elif shape not in ("circle", "ring", "person", "cross") and relative > 0.16 and rng.random() < 0.05:
        stroke_rgb, stroke_width, hollow = rgb, max(3.0, float(rng.uniform(0.06, 0.11) * size)), True
    accent = None
    if shape == "person" and color not in ("pink", "orange", "brown", "white") and rng.random() < 0.25:
        skin = _SKIN[int(rng.integers(len(_SKIN)))]
        accent = skin if _contrast(skin, background) > 32 else None
    return Figure(
        shape=shape,
        color=color,
        rgb=rgb,
        cx=0.0,
        cy=0.0,
        size=size,
        rotation=_rotation(rng, shape),
        detail=float(rng.random()),
        variant=int(rng.integers(1 << 20)),
        stroke_rgb=stroke_rgb,
        stroke_width=stroke_width,
        hollow=hollow,
        texture=_TEXTURES[int(rng.choice(len(_TEXTURES), p=_TEXTURE_ODDS))],
        accent_rgb=accent,
    )


def _paint(rng: Generator, colors: tuple[str, ...], background: Background) -> tuple[str, Rgb, Rgb | None]:
    """Name, colour and stroke; colours close to the background are drawn again, or get a stroke."""
    for attempt in range(24):
        pool = colors if attempt < 12 else COLOR_NAMES
        color = pool[int(rng.integers(len(pool)))]
        rgb = sample_color(rng, color)
        contrast = _contrast(rgb, background)
        if contrast > 26:
            stroke = _stroke(rng, rgb) if rng.random() < 0.36 else None
            hidden = stroke is not None and _contrast(stroke, background) < 12
            return color, rgb, None if hidden else stroke
        stroke = _stroke(rng, rgb)
        if stroke is not None and _contrast(stroke, background) > 35 and rng.random() < 0.15:
            return color, rgb, stroke  # such as a white circle with a black line on white paper
    return color, rgb, _stroke(rng, rgb)


def _contrast(rgb: Rgb, background: Background) -> float:
    return min(lab_distance(rgb, other) for other in background.colors)


def _stroke(rng: Generator, rgb: Rgb) -> Rgb | None:
    kind = rng.random()
    if kind < 0.6:
        level = int(rng.integers(0, 45)) if rng.random() < 0.4 else 0
        stroke = (level, level, level)
    elif kind < 0.75:
        stroke = (255, 255, 255)
    else:
        stroke = shade(rgb, float(rng.uniform(0.45, 0.7)))
    return stroke if lab_distance(stroke, rgb) > 12 else None


def _rotation(rng: Generator, shape: str) -> float:
    """Free where a turned shape keeps its name; squares and diamonds stay apart."""
    if shape in ("circle", "ring") or rng.random() < 0.35:
        return 0.0
    if shape == "person":
        return float(rng.uniform(-14, 14))
    limit = {"square": 16.0, "diamond": 12.0, "heart": 35.0}.get(shape, 180.0)
    return float(rng.uniform(-limit, limit))


def _place(rng: Generator, figure: Figure, height: int, width: int) -> Figure:
    room = figure.size / 2 + figure.stroke_width / 2 + 1
    if rng.random() < 0.06:
        room *= 0.6  # may run over the edge of the picture
    cx = rng.uniform(room, width - room) if width > 2 * room else width / 2
    cy = rng.uniform(room, height - room) if height > 2 * room else height / 2
    return replace(figure, cx=float(cx), cy=float(cy))


def _add(figure: Figure, taken: _Taken, rasterizer: str, crowded: bool) -> bool:
    """Put `figure` on top if every figure then stays visible, apart and nameable."""
    height, width = taken.owner.shape
    if not all(_apart(figure, other, crowded) for other in taken.figures):
        return False
    layer = rasterize(figure, rasterizer, height, width)
    pixels = int(layer.mask.sum())
    if pixels < max(20, MIN_VISIBLE * layer.whole):
        return False
    below = taken.owner[layer.window]
    covered = np.bincount(below[layer.mask] + 1, minlength=len(taken.figures) + 1)[1:]
    for index, lost in enumerate(covered):
        if lost == 0:
            continue
        touching = taken.figures[index]
        if not crowded or touching.hollow or figure.hollow:
            return False
        if taken.visible[index] - lost < MIN_VISIBLE * taken.layers[index].whole:
            return False
    for index, lost in enumerate(covered):
        taken.visible[index] -= int(lost)
    below[layer.mask] = len(taken.figures)
    taken.figures.append(figure)
    taken.layers.append(layer)
    taken.visible.append(pixels)
    return True


def _apart(figure: Figure, other: Figure, crowded: bool) -> bool:
    """Whether two figures can be told apart by their surrounding squares and colours."""
    reach = (figure.size + other.size) / 2
    dx, dy = abs(figure.cx - other.cx), abs(figure.cy - other.cy)
    gap = 3 + (figure.stroke_width + other.stroke_width) / 2
    if dx >= reach + gap or dy >= reach + gap:
        return True
    alike = figure.stroke_rgb is None and lab_distance(figure.rgb, other.rgb) < 25
    if alike:
        return False  # they would flow into one
    overlap = max(0.0, reach - dx) * max(0.0, reach - dy)
    return overlap < (0.55 if crowded else 0.35) * min(figure.size, other.size) ** 2
