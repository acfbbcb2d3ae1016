"""Three ways to turn a figure into coverage: Pillow with and without anti-aliasing, distance fields.

A layer holds coverage in a crop of the canvas. Its mask is "at least half covered", so labels fit
the pixels whichever way they were drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from superlink.workflows.data.shapes.figures import Figure, geometry
from superlink.workflows.data.shapes.parts import Capsule, Disc, Part, Points, Polygon, bounds
from superlink.workflows.data.shapes.people import HEAD

Coverage = NDArray[np.float32]  # (h, w) in [0, 1]
RASTERIZERS = ("smooth", "aliased", "field")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Coverage of one figure in the crop whose upper left corner is (x0, y0), both inside the canvas."""

    x0: int
    y0: int
    fill: Coverage  # zeros where a hollow figure is empty
    stroke: Coverage | None
    stroke_below: bool  # people: the stroke is a rim behind the body
    accent: Coverage | None
    mask: NDArray[np.bool_]  # (h, w) silhouette; a hollow figure's mask is filled
    whole: int  # pixels of the silhouette before the canvas cut it

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.mask.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)


@lru_cache(maxsize=64)
def rasterize(figure: Figure, rasterizer: str, height: int, width: int) -> Layer:
    """Coverage of `figure` on a canvas, cropped to what the canvas holds."""
    parts = geometry(figure)[0]
    low, high = bounds(parts)
    pad = figure.stroke_width / 2 + 1.5
    x0, y0 = (int(v) for v in np.floor(low - pad))
    x1, y1 = (int(v) for v in np.ceil(high + pad))
    draw = _field if rasterizer == "field" else _smooth if rasterizer == "smooth" else _aliased
    body, stroke, accent = draw(figure, parts, x0, y0, x1 - x0, y1 - y0)
    silhouette = body if stroke is None else np.maximum(body, stroke)
    mask = silhouette >= 0.5
    rows = slice(max(0, -y0), max(0, min(y1, height) - y0))
    columns = slice(max(0, -x0), max(0, min(x1, width) - x0))
    return Layer(
        x0=max(x0, 0),
        y0=max(y0, 0),
        fill=(np.zeros_like(body) if figure.hollow else body)[rows, columns],
        stroke=None if stroke is None else stroke[rows, columns],
        stroke_below=figure.shape == "person",
        accent=None if accent is None else accent[rows, columns],
        mask=mask[rows, columns],
        whole=int(mask.sum()),
    )


Drawn = tuple[Coverage, Coverage | None, Coverage | None]  # body, stroke, accent


def _smooth(figure: Figure, parts: tuple[Part, ...], x0: int, y0: int, width: int, height: int) -> Drawn:
    return _pillow(figure, parts, x0, y0, width, height, 4 if width * height < 4000 else 3)


def _aliased(figure: Figure, parts: tuple[Part, ...], x0: int, y0: int, width: int, height: int) -> Drawn:
    return _pillow(figure, parts, x0, y0, width, height, 1)


def _pillow(
    figure: Figure, parts: tuple[Part, ...], x0: int, y0: int, width: int, height: int, scale: int
) -> Drawn:
    def coverage(chosen: tuple[Part, ...], paint: Callable[[_Pen, Part], None]) -> Coverage:
        canvas = Image.new("L", (width * scale, height * scale))
        pen = _Pen(ImageDraw.Draw(canvas), x0, y0, scale)
        for part in chosen:
            paint(pen, part)
        small = canvas.reduce(scale) if scale > 1 else canvas
        return np.asarray(small, dtype=np.float32) / np.float32(255)

    stroke, wide = None, figure.stroke_width
    if figure.stroke_rgb is not None and wide > 0:
        if figure.shape == "person":
            stroke = coverage(parts, lambda pen, part: pen.fill(part, grow=wide / 2))
        else:
            stroke = coverage(parts, lambda pen, part: pen.edge(part, wide))
    accent = None if figure.accent_rgb is None else coverage((parts[HEAD],), _Pen.fill)
    return coverage(parts, _Pen.fill), stroke, accent


@dataclass(frozen=True, slots=True, eq=False)
class _Pen:
    """Paints parts on a crop at `scale` times its size."""

    draw: ImageDraw.ImageDraw
    x0: int
    y0: int
    scale: int

    def fill(self, part: Part, grow: float = 0.0) -> None:
        if isinstance(part, Polygon):
            corners = self._at(part.points)
            self.draw.polygon(corners, fill=255)
            if grow > 0:
                self._line(corners, 2 * grow, closed=True)
        elif isinstance(part, Disc):
            self._disc(part.x, part.y, part.radius + grow, 255)
            if part.hole > grow:
                self._disc(part.x, part.y, part.hole - grow, 0)
        else:
            radius = part.radius + grow
            ends = np.array([[part.x0, part.y0], [part.x1, part.y1]])
            self._line(self._at(ends), 2 * radius, closed=False)
            for x, y in ends:
                self._disc(x, y, radius, 255)

    def edge(self, part: Part, width: float) -> None:
        """A line of `width` centred on the boundary."""
        if isinstance(part, Polygon):
            self._line(self._at(part.points), width, closed=True)
        elif isinstance(part, Disc):
            thick = max(1, round(width * self.scale))
            for radius in (part.radius, part.hole):
                if radius > 0:
                    box = self._box(part.x, part.y, radius + width / 2)
                    self.draw.ellipse(box, outline=255, width=thick)

    def _at(self, points: Points) -> list[tuple[int, int]]:
        # Pillow's whole coordinates are pixel centres, ours are pixel corners
        grid = np.rint((points - (self.x0, self.y0)) * self.scale - 0.5).astype(int)
        return [(int(x), int(y)) for x, y in grid]

    def _box(self, x: float, y: float, radius: float) -> list[tuple[int, int]]:
        return self._at(np.array([[x - radius, y - radius], [x + radius, y + radius]]))

    def _disc(self, x: float, y: float, radius: float, value: int) -> None:
        self.draw.ellipse(self._box(x, y, radius), fill=value)

    def _line(self, corners: list[tuple[int, int]], width: float, closed: bool) -> None:
        path = [*corners, *corners[:2]] if closed else corners
        self.draw.line(path, fill=255, width=max(1, round(width * self.scale)), joint="curve")


def _field(figure: Figure, parts: tuple[Part, ...], x0: int, y0: int, width: int, height: int) -> Drawn:
    xs = np.arange(x0, x0 + width, dtype=np.float32) + np.float32(0.5)
    ys = np.arange(y0, y0 + height, dtype=np.float32)[:, None] + np.float32(0.5)
    soft = 1.0 + figure.detail  # width of the soft edge in pixels
    distances = [_distance(part, xs, ys) for part in parts]
    body: Coverage = np.minimum.reduce(distances)
    stroke = None
    if figure.stroke_rgb is not None and figure.stroke_width > 0:
        half = figure.stroke_width / 2
        edge: Coverage = body if figure.shape == "person" else np.abs(body)
        stroke = _soften(edge - np.float32(half), soft)
    accent = None if figure.accent_rgb is None else _soften(distances[HEAD], soft)
    return _soften(body, soft), stroke, accent


def _soften(distance: Coverage, soft: float) -> Coverage:
    coverage: Coverage = np.clip(np.float32(0.5) - distance / np.float32(soft), 0, 1)
    return coverage


def _distance(part: Part, xs: Coverage, ys: Coverage) -> Coverage:
    """Signed distance of the pixel centres to the part, negative inside."""
    if isinstance(part, Disc):
        radial: Coverage = np.sqrt((xs - np.float32(part.x)) ** 2 + (ys - np.float32(part.y)) ** 2)
        if part.hole > 0:
            middle, half = (part.radius + part.hole) / 2, (part.radius - part.hole) / 2
            band: Coverage = np.abs(radial - np.float32(middle))
            return band - np.float32(half)
        return radial - np.float32(part.radius)
    if isinstance(part, Capsule):
        to_axis: Coverage = np.sqrt(_segment(part.x0, part.y0, part.x1, part.y1, xs, ys))
        return to_axis - np.float32(part.radius)
    return _polygon_distance(part.points, xs, ys)


def _segment(x0: float, y0: float, x1: float, y1: float, xs: Coverage, ys: Coverage) -> Coverage:
    """Squared distance to a segment."""
    dx, dy = np.float32(x1 - x0), np.float32(y1 - y0)
    px, py = xs - np.float32(x0), ys - np.float32(y0)
    along: Coverage = np.clip((px * dx + py * dy) / (dx * dx + dy * dy + np.float32(1e-9)), 0, 1)
    rx, ry = px - along * dx, py - along * dy
    squared: Coverage = rx * rx + ry * ry
    return squared


def _polygon_distance(points: Points, xs: Coverage, ys: Coverage) -> Coverage:
    """Distance to the nearest edge, signed by the crossing rule."""
    nearest = np.full((len(ys), len(xs)), np.inf, dtype=np.float32)
    inside = np.zeros(nearest.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        np.minimum(nearest, _segment(x0, y0, x1, y1, xs, ys), out=nearest)
        if y0 != y1:
            crosses = (ys >= min(y0, y1)) & (ys < max(y0, y1))
            inside ^= crosses & (xs < x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    distance: Coverage = np.sqrt(nearest)
    distance[inside] *= -1
    return distance
