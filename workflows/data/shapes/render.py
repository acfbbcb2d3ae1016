"""Painting a figure's coverage on a canvas, with its fill texture, stroke and face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from superlink.workflows.data.shapes.backgrounds import Canvas
from superlink.workflows.data.shapes.figures import Figure
from superlink.workflows.data.shapes.raster import Coverage, Layer


def paint_figure(canvas: Canvas, figure: Figure, layer: Layer, seed: int) -> None:
    """Blend the figure over `canvas` in place."""
    window = canvas[layer.window]
    if layer.stroke is not None and layer.stroke_below and figure.stroke_rgb is not None:
        _blend(window, layer.stroke, np.asarray(figure.stroke_rgb, dtype=np.float32))
    _blend(window, layer.fill, _ink(figure, layer, seed))
    if layer.accent is not None and figure.accent_rgb is not None:
        _blend(window, layer.accent, np.asarray(figure.accent_rgb, dtype=np.float32))
    if layer.stroke is not None and not layer.stroke_below and figure.stroke_rgb is not None:
        _blend(window, layer.stroke, np.asarray(figure.stroke_rgb, dtype=np.float32))


def _blend(window: Canvas, coverage: Coverage, ink: NDArray[np.float32]) -> None:
    window += coverage[:, :, None] * (ink - window)


def _ink(figure: Figure, layer: Layer, seed: int) -> NDArray[np.float32]:
    """The fill's colour, (3,) or (h, w, 3); textures only shade it, the name stays right."""
    color = np.asarray(figure.rgb, dtype=np.float32)
    if figure.texture == "plain":
        return color
    rng = np.random.default_rng(np.random.SeedSequence([seed, figure.variant]))
    height, width = layer.mask.shape
    if figure.texture == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        xs = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(angle))
        ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
        factor = 1 + np.float32(rng.uniform(0.05, 0.12)) * (xs + ys)
    elif figure.texture == "hatch":
        period = rng.uniform(4, 9)
        slope = float(rng.choice([-1.0, 0.0, 1.0]))
        phase = np.arange(width, dtype=np.float32) + slope * np.arange(height, dtype=np.float32)[:, None]
        factor = 1 - np.float32(rng.uniform(0.08, 0.16)) * ((phase / period) % 1 < 0.3).astype(np.float32)
    else:
        factor = 1 + np.float32(0.05) * rng.standard_normal((height, width), dtype=np.float32)
    return color * factor[:, :, None]
