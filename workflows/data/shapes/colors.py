"""Twelve colour names, the palettes that other programs mean by them, and Lab distances.

Every name owns a few boxes of HSV space, with gaps between the names: a colour in a gap
(teal, magenta, maroon, ...) has no name and is never given to an object.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from numpy.random import Generator

Rgb = tuple[int, int, int]

# name -> (CSS/X11 names, tab10, material, pure primaries)
PALETTES: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (255, 0, 0), (214, 39, 40), (244, 67, 54), (220, 20, 60), (229, 57, 53)),
    "orange": ((255, 165, 0), (255, 127, 14), (255, 152, 0), (255, 140, 0), (255, 128, 0)),
    "yellow": ((255, 255, 0), (255, 255, 0), (255, 215, 0), (255, 235, 59), (253, 216, 53), (240, 228, 66)),
    "green": (
        (0, 128, 0), (0, 255, 0), (44, 160, 44), (76, 175, 80), (34, 139, 34), (50, 205, 50),
        (46, 139, 87), (0, 100, 0), (60, 179, 113),
    ),
    "cyan": ((0, 255, 255), (0, 255, 255), (23, 190, 207), (0, 188, 212), (0, 206, 209), (64, 224, 208)),
    "blue": (
        (0, 0, 255), (0, 0, 255), (31, 119, 180), (33, 150, 243), (63, 81, 181), (65, 105, 225),
        (30, 144, 255), (0, 0, 139), (0, 0, 205), (70, 130, 180), (0, 0, 128), (100, 149, 237),
    ),
    "purple": (
        (128, 0, 128), (128, 0, 128), (148, 103, 189), (156, 39, 176), (103, 58, 183), (102, 51, 153),
        (138, 43, 226), (148, 0, 211), (75, 0, 130), (153, 50, 204), (147, 112, 219),
    ),
    "pink": (
        (255, 192, 203), (255, 192, 203), (255, 105, 180), (227, 119, 194), (233, 30, 99),
        (255, 20, 147), (255, 182, 193), (244, 143, 177),
    ),
    "brown": (
        (165, 42, 42), (165, 42, 42), (140, 86, 75), (121, 85, 72), (139, 69, 19), (160, 82, 45),
        (150, 75, 0),
    ),
    "black": ((0, 0, 0), (0, 0, 0), (20, 20, 20), (33, 33, 33)),
    "white": ((255, 255, 255), (255, 255, 255), (250, 250, 250), (245, 245, 245)),
    "gray": (
        (128, 128, 128), (127, 127, 127), (158, 158, 158), (105, 105, 105), (169, 169, 169),
        (192, 192, 192),
    ),
}  # fmt: skip
COLOR_NAMES: tuple[str, ...] = tuple(PALETTES)

# (hue from, to in degrees; saturation from, to; value from, to). Hue may run past 360.
_REGIONS: tuple[tuple[str, float, float, float, float, float, float], ...] = (
    ("red", 346, 366, 0.74, 1.0, 0.80, 1.0),
    ("orange", 24, 41, 0.80, 1.0, 0.88, 1.0),
    ("yellow", 47, 66, 0.55, 1.0, 0.85, 1.0),
    ("green", 88, 152, 0.40, 1.0, 0.36, 1.0),
    ("cyan", 172, 191, 0.60, 1.0, 0.70, 1.0),
    ("blue", 202, 246, 0.55, 1.0, 0.45, 1.0),
    ("purple", 256, 286, 0.40, 1.0, 0.45, 0.90),
    ("purple", 286, 304, 0.50, 1.0, 0.45, 0.75),
    ("pink", 314, 341, 0.35, 1.0, 0.86, 1.0),
    ("pink", 341, 362, 0.19, 0.42, 0.92, 1.0),
    ("brown", 0, 32, 0.38, 0.80, 0.42, 0.68),
    ("brown", 14, 34, 0.80, 1.0, 0.42, 0.68),
    ("black", 0, 360, 0.0, 1.0, 0.0, 0.14),
    ("white", 0, 360, 0.0, 0.03, 0.95, 1.0),
    ("gray", 0, 360, 0.0, 0.06, 0.38, 0.78),
)


def color_name(rgb: Rgb) -> str | None:
    """The name whose region holds `rgb`, or None in the gaps between names."""
    hue, saturation, value = colorsys.rgb_to_hsv(rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)
    degrees = hue * 360
    for name, h0, h1, s0, s1, v0, v1 in _REGIONS:
        in_hue = h0 <= degrees <= h1 or h0 <= degrees + 360 <= h1
        if in_hue and s0 <= saturation <= s1 and v0 <= value <= v1:
            return name
    return None


def sample_color(rng: Generator, name: str, jitter: float = 1.0) -> Rgb:
    """A palette colour of `name`, most often moved a little, never out of the name's region."""
    palette = PALETTES[name]
    anchor = palette[int(rng.integers(len(palette)))]
    if jitter <= 0 or rng.random() < 0.35:
        return anchor
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in anchor))
    for _ in range(4):
        moved = colorsys.hsv_to_rgb(
            (hue + jitter * float(rng.normal(0, 0.012))) % 1.0,
            float(np.clip(saturation + jitter * rng.normal(0, 0.05 if saturation > 0.1 else 0.008), 0, 1)),
            float(np.clip(value + jitter * rng.normal(0, 0.045), 0, 1)),
        )
        rgb = (round(moved[0] * 255), round(moved[1] * 255), round(moved[2] * 255))
        if color_name(rgb) == name:
            return rgb
    return anchor


@lru_cache(maxsize=4096)
def lab(rgb: Rgb) -> tuple[float, float, float]:
    """CIE L*a*b* (D65) of an sRGB colour. Source: IEC 61966-2-1 and CIE 15."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    r, g, b = linear
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def lab_distance(a: Rgb, b: Rgb) -> float:
    """Euclidean distance in Lab (CIE76); about 2 is just noticeable."""
    (l0, a0, b0), (l1, a1, b1) = lab(a), lab(b)
    return float(((l0 - l1) ** 2 + (a0 - a1) ** 2 + (b0 - b1) ** 2) ** 0.5)


def shade(rgb: Rgb, factor: float) -> Rgb:
    """`rgb` darker (factor < 1) or mixed towards white (factor > 1; 2 is white)."""
    if factor <= 1:
        return (round(rgb[0] * factor), round(rgb[1] * factor), round(rgb[2] * factor))
    mix = min(factor - 1, 1.0)
    r, g, b = (round(channel + (255 - channel) * mix) for channel in rgb)
    return (r, g, b)
