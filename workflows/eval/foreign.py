"""Pictures drawn by other programs: matplotlib, scikit-image and an SVG renderer.

For evaluation only: nothing here is ever trained on, and it shares no drawing code and no outlines
with the shapes world. The three programs are development dependencies and are imported when used.

    picture = draw_foreign(seed=3, program="matplotlib")
    picture.pixels, picture.boxes, picture.masks      # names like "red circle"
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from superlink.decoders.artifacts import Boxes, Masks
from superlink.router.errors import InputError
from superlink.workflows.eval.outlines import OUTLINES, RING_HOLE, Outline

Program = Literal["matplotlib", "skimage", "svg"]
PROGRAMS: tuple[Program, ...] = ("matplotlib", "skimage", "svg")
# the first is drawn most often
CSS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "orange": ("orange", "darkorange"),
    "yellow": ("yellow", "gold"),
    "green": ("green", "limegreen", "forestgreen", "lime"),
    "cyan": ("cyan", "darkturquoise"),
    "blue": ("blue", "royalblue", "dodgerblue", "navy"),
    "purple": ("purple", "rebeccapurple", "darkviolet"),
    "pink": ("pink", "hotpink", "deeppink"),
    "brown": ("brown", "saddlebrown", "sienna"),
    "black": ("black",),
    "white": ("white",),
    "gray": ("gray", "darkgray"),
}
PAPERS = ("white",) * 6 + ("whitesmoke", "lightgray", "aliceblue", "beige", "lavender", "black", "navy")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignPicture:
    program: Program
    pixels: NDArray[np.uint8]  # (H, W, 3)
    boxes: Boxes  # one class for each "color shape" present
    masks: Masks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One object in a square-pixel frame with y down."""

    shape: str
    color: str
    css: str
    x: float
    y: float
    radius: float
    rotation: float  # degrees
    edge: str | None  # CSS colour of the edge line
    line: float  # its width in pixels

    def outline(self) -> Outline:
        """Closed loops (N, 2) in pixels; filled by the even-odd rule."""
        angle = np.deg2rad(self.rotation)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return tuple(loop @ turn * self.radius + (self.x, self.y) for loop in OUTLINES[self.shape])


def check_programs() -> None:
    """Whether the three programs are there.

    Raises:
        InputError: one is not installed.
    """
    missing = [name for name in ("matplotlib", "skimage", "resvg_py") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"foreign pictures are drawn by {', '.join(missing)}, which is not installed; "
            f"install superlink[dev] or leave this part out"
        )


def draw_foreign(seed: int, program: Program | None = None) -> ForeignPicture:
    """The picture of this seed, by one of three programs."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 404]))
    program = program or PROGRAMS[int(rng.integers(len(PROGRAMS)))]
    height = int(rng.integers(200, 481))
    width = height if rng.random() < 0.3 else int(np.clip(height * rng.uniform(0.6, 1.8), 200, 640))
    paper = PAPERS[int(rng.integers(len(PAPERS)))]
    items = _items(rng, height, width, paper)
    if program == "matplotlib":
        pixels, outlines = _matplotlib(rng, items, height, width, paper)
    else:
        pixels = (_skimage if program == "skimage" else _svg)(items, height, width, paper)
        outlines = [item.outline() for item in items]
    return _labelled(program, pixels, items, outlines)


def _items(rng: Generator, height: int, width: int, paper: str) -> list[Item]:
    side = min(height, width)
    edged = rng.random() < 0.4
    edge_line = float(rng.choice([1.0, 2.0, 3.0]))
    items: list[Item] = []
    for _ in range(int(rng.integers(1, 8))):
        for _ in range(30):
            color = str(rng.choice(list(CSS)))
            css = CSS[color][0] if rng.random() < 0.7 else str(rng.choice(CSS[color]))
            if contrast(css, paper) < 110:
                continue
            radius = float(np.exp(rng.uniform(np.log(0.055), np.log(0.19)))) * side
            room = radius * 1.1 + 6
            x, y = float(rng.uniform(room, width - room)), float(rng.uniform(room, height - room))
            if any(np.hypot(x - o.x, y - o.y) < (radius + o.radius) * 1.1 for o in items):
                continue
            shape = str(rng.choice(list(OUTLINES)))
            line = edge_line if shape != "person" else 0.0  # it would hide the thin limbs
            edge = "white" if paper in ("black", "navy") else "black"
            items.append(
                Item(
                    shape=shape,
                    color=color,
                    css=css,
                    x=x,
                    y=y,
                    radius=radius,
                    rotation=_rotation(rng, shape),
                    edge=edge if edged and 0 < line <= radius / 9 else None,
                    line=line,
                )
            )
            break
    return items


def _rotation(rng: Generator, shape: str) -> float:
    if rng.random() < 0.6 or shape in ("person", "heart"):
        return 0.0
    return float(rng.uniform(-12, 12) if shape in ("square", "diamond") else rng.uniform(0, 360))


def contrast(a: str, b: str) -> float:
    """Sum of the differences of the channels."""
    return float(np.abs(np.subtract(ImageColor.getrgb(a)[:3], ImageColor.getrgb(b)[:3])).sum())


def _labelled(
    program: Program, pixels: NDArray[np.uint8], items: list[Item], outlines: list[Outline]
) -> ForeignPicture:
    height, width = pixels.shape[:2]
    names = tuple(dict.fromkeys(f"{item.color} {item.shape}" for item in items))
    masks = np.zeros((len(items), height, width), dtype=np.bool_)
    xyxy = np.zeros((len(items), 4), dtype=np.float32)
    for row, (item, outline) in enumerate(zip(items, outlines, strict=True)):
        masks[row] = _filled(outline, height, width)
        corners = np.concatenate(outline)
        half = item.line / 2 if item.edge else 0.0
        low, high = corners.min(axis=0) - half, corners.max(axis=0) + half
        xyxy[row] = np.clip(np.concatenate([low, high]), 0, [width, height, width, height])
    labels = np.asarray([names.index(f"{item.color} {item.shape}") for item in items], dtype=np.int64)
    scores, size = np.ones(len(items), dtype=np.float32), (height, width)
    return ForeignPicture(
        program=program,
        pixels=pixels,
        boxes=Boxes(xyxy=xyxy, scores=scores, labels=labels, names=names, size=size),
        masks=Masks(masks=masks, xyxy=xyxy, scores=scores, labels=labels, names=names, size=size),
    )


def _filled(outline: Outline, height: int, width: int) -> NDArray[np.bool_]:
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for index, loop in enumerate(outline):
        hole = index == 1 and len(outline) == 2
        draw.polygon([(float(x) - 0.5, float(y) - 0.5) for x, y in loop], fill=0 if hole else 1)
    return np.asarray(canvas, dtype=np.bool_)


def _matplotlib(
    rng: Generator, items: list[Item], height: int, width: int, paper: str
) -> tuple[NDArray[np.uint8], list[Outline]]:
    """Patches in data coordinates, with or without axes, as a script would plot them."""
    from matplotlib import patches
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=paper)
    canvas: Any = FigureCanvasAgg(figure)
    framed = rng.random() < 0.5
    if framed:
        axes = figure.add_subplot()
        if paper in ("black", "navy"):
            axes.set_facecolor(paper)
        axes.grid(bool(rng.random() < 0.4))
        if rng.random() < 0.3:
            axes.set_title("shapes")
    else:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.axis("off")
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_aspect("equal")
    outlines: list[Outline] = []
    for item in items:
        style: dict[str, Any] = {"facecolor": item.css, "edgecolor": item.edge or "none", "zorder": 3}
        style["linewidth"] = item.line * 0.72  # points at 100 dpi
        x, y, r = item.x, height - item.y, item.radius
        loops = [np.stack([loop[:, 0], height - loop[:, 1]], axis=1) for loop in item.outline()]
        if item.shape == "circle":
            axes.add_patch(patches.Circle((x, y), r, **style))
        elif item.shape == "ring":
            axes.add_patch(patches.Annulus((x, y), r, r * (1 - RING_HOLE), **style))
        else:
            for loop in loops:
                axes.add_patch(patches.Polygon(loop, closed=True, **style))
        outlines.append(tuple(loops))
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    tall = pixels.shape[0]
    placed = []
    for outline in outlines:
        moved = [np.asarray(axes.transData.transform(loop)) for loop in outline]
        placed.append(tuple(np.stack([loop[:, 0], tall - loop[:, 1]], axis=1) for loop in moved))
    return pixels, placed


def _skimage(items: list[Item], height: int, width: int, paper: str) -> NDArray[np.uint8]:
    """Index arrays painted on a numpy canvas, without anti-aliasing."""
    import skimage.draw

    draw: Any = skimage.draw

    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:] = ImageColor.getrgb(paper)[:3]
    for item in items:
        ink = ImageColor.getrgb(item.css)[:3]
        if item.shape in ("circle", "ring"):
            rows, columns = draw.disk((item.y, item.x), item.radius, shape=(height, width))
            under = canvas.copy()
            canvas[rows, columns] = ink
            if item.shape == "ring":
                rows, columns = draw.disk((item.y, item.x), item.radius * RING_HOLE, shape=(height, width))
                canvas[rows, columns] = under[rows, columns]
            continue
        for loop in item.outline():
            rows, columns = draw.polygon(loop[:, 1], loop[:, 0], shape=(height, width))
            canvas[rows, columns] = ink
        if item.edge:
            (loop,) = item.outline()
            rows, columns = draw.polygon_perimeter(loop[:, 1], loop[:, 0], shape=(height, width))
            canvas[rows, columns] = ImageColor.getrgb(item.edge)[:3]
    return canvas


def _svg(items: list[Item], height: int, width: int, paper: str) -> NDArray[np.uint8]:
    """An SVG document drawn by resvg."""
    import resvg_py

    parts = [f'<rect width="{width}" height="{height}" fill="{paper}"/>']
    for item in items:
        stroke = f'stroke="{item.edge}" stroke-width="{item.line}"' if item.edge else ""
        place = f'cx="{item.x:.2f}" cy="{item.y:.2f}"'
        ink = "rgb({},{},{})".format(*ImageColor.getrgb(item.css)[:3])  # resvg lacks "rebeccapurple"
        if item.shape == "circle":
            parts.append(f'<circle {place} r="{item.radius:.2f}" fill="{ink}" {stroke}/>')
        elif item.shape == "ring":
            thick = item.radius * (1 - RING_HOLE)
            parts.append(
                f'<circle {place} r="{item.radius - thick / 2:.2f}" fill="none" '
                f'stroke="{ink}" stroke-width="{thick:.2f}"/>'
            )
        else:
            for loop in item.outline():
                corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in loop)
                parts.append(f'<polygon points="{corners}" fill="{ink}" {stroke}/>')
    text = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{"".join(parts)}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=text))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).copy()
