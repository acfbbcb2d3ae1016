"""Colours in CIE L*a*b*, and the name of a colour: that of the nearest named one.

What a name covers is the definition of the shapes world (`color_name`); colours in its gaps take the name
that is nearest in Lab, where distances are about as people see them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from superlink.workflows.data.shapes.colors import PALETTES, color_name

Lab = NDArray[np.float32]  # (..., 3) L in 0..100, a and b about -110..110
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65
_STEP = 8  # grey levels between neighbours of the grid of named colours


def lab_of(pixels: NDArray[np.uint8]) -> Lab:
    """CIE L*a*b* (D65) of sRGB values (..., 3). Source: IEC 61966-2-1 and CIE 15."""
    levels = np.arange(256) / 255.0
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    xyz = linear.astype(np.float32)[pixels] @ (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    lab: Lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)
    return lab


def name_of(lab: Lab) -> str:
    """The name of one colour (3,)."""
    tree, names = _named()
    _, nearest = tree.query(np.asarray(lab, dtype=np.float64))
    return names[int(nearest)]


@lru_cache(maxsize=1)
def _named() -> tuple[cKDTree, tuple[str, ...]]:
    """Every named colour of a grid over RGB, and those of the palettes."""
    levels = [*range(0, 256, _STEP), 255]
    found = [
        (rgb, name)
        for rgb in ((r, g, b) for r in levels for g in levels for b in levels)
        if (name := color_name(rgb)) is not None
    ]
    found += [(rgb, name) for name, palette in PALETTES.items() for rgb in palette]
    colors = np.asarray([rgb for rgb, _ in found], dtype=np.uint8)
    return cKDTree(lab_of(colors).astype(np.float64)), tuple(name for _, name in found)
