"""What happens to a picture after it was drawn: resizing, blur, light, noise, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """In the order in which they are applied; the defaults change nothing."""

    zoom: float = 1.0  # drawn at this fraction of the size and enlarged again
    blur: float = 0.0  # Gaussian radius in pixels
    gain: float = 1.0
    offset: float = 0.0
    noise: float = 0.0  # standard deviation in grey levels
    jpeg: int = 0  # quality; 0 = not compressed
    seed: int = 0


def sample_effects(rng: Generator, amount: float = 1.0) -> Effects:
    """Mild effects; each is absent more often than not.

    Args:
        amount: 0 = none at all, 1 = as in training.
    """
    if rng.random() >= 0.6 * amount:
        return Effects()
    return Effects(
        zoom=float(rng.uniform(0.55, 0.95)) if rng.random() < 0.2 else 1.0,
        blur=float(rng.uniform(0.3, 1.1)) if rng.random() < 0.25 else 0.0,
        gain=float(rng.uniform(0.88, 1.08)) if rng.random() < 0.35 else 1.0,
        offset=float(rng.uniform(-8, 8)) if rng.random() < 0.25 else 0.0,
        noise=float(rng.uniform(1, 9)) if rng.random() < 0.3 else 0.0,
        jpeg=int(rng.integers(45, 96)) if rng.random() < 0.4 else 0,
        seed=int(rng.integers(1 << 30)),
    )


def apply_effects(pixels: Pixels, effects: Effects) -> Pixels:
    """The same picture after `effects`; same size."""
    if effects.zoom != 1.0 or effects.blur > 0:
        picture = Image.fromarray(pixels)
        if effects.zoom != 1.0:
            size = picture.size
            small = (max(8, round(size[0] * effects.zoom)), max(8, round(size[1] * effects.zoom)))
            picture = picture.resize(small, Image.Resampling.BILINEAR)
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        if effects.blur > 0:
            picture = picture.filter(ImageFilter.GaussianBlur(effects.blur))
        pixels = np.asarray(picture)
    if effects.gain != 1.0 or effects.offset or effects.noise:
        light = pixels.astype(np.float32) * np.float32(effects.gain) + np.float32(effects.offset)
        if effects.noise:
            rng = np.random.default_rng(effects.seed)
            light += np.float32(effects.noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
        pixels = np.clip(light + np.float32(0.5), 0, 255).astype(np.uint8)
    if effects.jpeg:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=effects.jpeg)
        pixels = np.asarray(Image.open(buffer))
    return pixels
