"""Tiles of pictures and masks in the frame of the overview tile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from superlink.router.config import RouterConfig, Tiling, TokenIds
from superlink.router.errors import InputError
from superlink.router.vision import CLIP_MEAN, CLIP_STD, region_of, tile_count, tile_grid, tiles_of

SIDE = 28
CONFIG = RouterConfig(
    vision={"hidden_size": 16, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 14},
    llm={"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 60},
    tokens=(),
    token_ids=TokenIds.following(20),
    max_tiles=6,
)
sizes = st.integers(1, 300)


def colours(tile: torch.Tensor) -> np.ndarray:
    """Back to 0..255, (S, S, 3)."""
    pixels = tile.permute(1, 2, 0).numpy() * np.array(CLIP_STD) + np.array(CLIP_MEAN)
    return pixels * 255


@given(sizes, sizes)
def test_no_other_grid_is_closer_to_the_shape_of_the_picture(width: int, height: int) -> None:
    columns, rows = tile_grid(width, height, CONFIG)
    assert 1 <= columns * rows <= CONFIG.max_tiles
    others = [(c, r) for c in range(1, 7) for r in range(1, 7) if c * r <= 6]
    assert all(abs(width / height - columns / rows) <= abs(width / height - c / r) for c, r in others)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((28, 28), (1, 1)),
        ((39, 39), (1, 1)),  # 1,521 pixels are less than half of the 3,136 of 2 x 2 tiles
        ((40, 40), (2, 2)),
        ((56, 28), (2, 1)),
        ((28, 84), (1, 3)),
        ((20000, 10), (6, 1)),
    ],
)
def test_grids_of_known_pictures(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert tile_grid(*size, CONFIG) == grid


@given(sizes, sizes, st.sampled_from(["anyres", "square", "pad"]))
def test_the_count_of_tiles_is_known_without_the_pixels(width: int, height: int, tiling: Tiling) -> None:
    config = replace(CONFIG, tiling=tiling)
    tiles = tiles_of(np.zeros((height, width, 3), np.uint8), config)
    assert tiles.shape == (tile_count(width, height, config), 3, SIDE, SIDE)
    assert tiles.dtype == torch.float32


def test_tiles_are_cut_row_by_row_and_the_overview_comes_last() -> None:
    picture = np.zeros((2 * SIDE, 3 * SIDE, 3), np.uint8)
    for tile in range(6):
        row, column = divmod(tile, 3)
        picture[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = 40 * tile
    tiles = tiles_of(picture, CONFIG)
    assert len(tiles) == 7
    for tile in range(6):
        np.testing.assert_allclose(colours(tiles[tile]), 40 * tile, atol=1e-3)
    overview = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(colours(tiles[6]), overview, atol=1e-3)


def test_normalisation_is_that_of_the_clip_processor() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    expected = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(tiles_of(picture, CONFIG), expected, atol=1e-5, rtol=1e-5)


def test_padding_uses_the_mean_colour_and_keeps_the_shape_of_things() -> None:
    picture = np.full((SIDE // 2, SIDE, 3), 255, np.uint8)
    (tile,) = colours(tiles_of(picture, replace(CONFIG, tiling="pad"))[0])[None]
    np.testing.assert_allclose(tile[:5], [[122, 116, 104]] * np.ones((5, SIDE, 1)), atol=1.01)
    np.testing.assert_allclose(tile[9:19], 255, atol=1e-3)


@pytest.mark.parametrize("tiling", ["anyres", "square", "pad"])
def test_a_mask_lies_on_the_same_things_as_in_the_overview(tiling: Tiling) -> None:
    config = replace(CONFIG, tiling=tiling)
    mask = np.zeros((90, 160), bool)
    mask[20:70, 90:150] = True
    picture = np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    white = colours(tiles_of(picture, config)[-1])[..., 0]
    region = region_of(mask, config)[0].numpy() > 0
    thing = white > 127
    assert region[thing].all()
    spread = np.lib.stride_tricks.sliding_window_view(np.pad(thing, 1), (3, 3)).any(axis=(2, 3))
    assert not region[~spread].any()  # at most one pixel further


@given(sizes, sizes, st.data())
def test_a_single_marked_pixel_survives_and_an_empty_mask_stays_empty(
    width: int, height: int, data: st.DataObject
) -> None:
    mask = np.zeros((height, width), bool)
    assert not region_of(mask, CONFIG).any()
    mask[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    region = region_of(mask, CONFIG)
    assert region.shape == (1, SIDE, SIDE)
    assert region.sum() >= 1


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"a picture must be \(H, W, 3\) uint8"):
        tiles_of(picture, CONFIG)
    with pytest.raises(InputError, match=r"a region mask must be \(H, W\)"):
        region_of(np.zeros((2, 2, 2), bool), CONFIG)
