"""Pictures and masks as the router sees them: tiles of one size, normalised as CLIP expects.

Pictures are (H, W, 3) uint8, upright, RGB. The last tile of a picture shows all of it; the region
encoder works on that one, so masks are brought into its frame.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from superlink.router.config import RouterConfig
from superlink.router.errors import InputError

# Per-channel statistics of the pictures that CLIP was trained on.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_MEAN, _STD = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))


def tile_grid(width: int, height: int, config: RouterConfig) -> tuple[int, int]:
    """Columns and rows of tiles whose shape is closest to the picture's.

    Of two equally close grids the one with more tiles is taken when the picture has more than half
    of its pixels.

    Source: Chen et al. 2024 (InternVL 1.5), dynamic high resolution.
    """
    if config.tiling != "anyres":
        return 1, 1
    grids = sorted(
        (
            (columns, rows)
            for columns in range(1, config.max_tiles + 1)
            for rows in range(1, config.max_tiles // columns + 1)
        ),
        key=lambda grid: (grid[0] * grid[1], grid[0]),
    )
    best, least = (1, 1), float("inf")
    for columns, rows in grids:
        difference = abs(width / height - columns / rows)
        roomy = width * height > 0.5 * config.image_size**2 * columns * rows
        if difference < least or (difference == least and roomy):
            best, least = (columns, rows), difference
    return best


def tile_count(width: int, height: int, config: RouterConfig) -> int:
    """How many tiles `tiles_of` makes of a picture of this size."""
    columns, rows = tile_grid(width, height, config)
    return columns * rows + (columns * rows > 1)


def tiles_of(image: NDArray[np.uint8], config: RouterConfig) -> Tensor:
    """(n, 3, S, S) float32 normalised tiles, row by row; the whole picture squashed last when n > 1.

    Raises:
        InputError: not an (H, W, 3) uint8 picture.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"a picture must be (H, W, 3) uint8, got shape {image.shape} of {image.dtype}")
    side = config.image_size
    picture = Image.fromarray(np.ascontiguousarray(image))
    if config.tiling == "pad":
        colour = tuple(int(255 * mean) for mean in CLIP_MEAN)
        picture = _padded(picture, Image.new("RGB", (max(picture.size),) * 2, colour))
    columns, rows = tile_grid(*picture.size, config)
    resized = np.asarray(picture.resize((columns * side, rows * side), Image.Resampling.BICUBIC))
    tiles = [
        resized[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)))
    # Channels first while a pixel is three bytes: the copy is a quarter as large.
    pixels = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous().float().div_(255)
    return pixels.sub_(_MEAN).div_(_STD)


def region_of(mask: NDArray[np.bool_], config: RouterConfig) -> Tensor:
    """(1, S, S) 0/1 float mask in the frame of the picture's last tile.

    A pixel of the tile is in when any part of the mask reaches it, so small marks survive.

    Raises:
        InputError: not an (H, W) mask.
    """
    if mask.ndim != 2 or 0 in mask.shape:
        raise InputError(f"a region mask must be (H, W), got shape {mask.shape}")
    drawn = Image.fromarray(mask.astype(np.float32))
    if config.tiling == "pad":
        drawn = _padded(drawn, Image.new("F", (max(drawn.size),) * 2, 0))
    squashed = drawn.resize((config.image_size, config.image_size), Image.Resampling.BILINEAR)
    return torch.from_numpy((np.asarray(squashed) > 0).astype(np.float32))[None]


def _padded(picture: Image.Image, square: Image.Image) -> Image.Image:
    """`picture` in the middle of `square`."""
    corner = ((square.width - picture.width) // 2, (square.height - picture.height) // 2)
    square.paste(picture, corner)
    return square
