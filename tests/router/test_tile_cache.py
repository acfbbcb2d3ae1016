from __future__ import annotations

import numpy as np
import pytest
import torch

from superlink.router.config import RouterConfig
from superlink.router.errors import InputError
from superlink.router.tile_cache import TileCache
from superlink.router.vision import tiles_of


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_a_picture_is_cut_once_and_known_by_its_content(config: RouterConfig) -> None:
    cache = TileCache(config)
    image = picture(0)
    first = cache.tiles_of(image)
    assert torch.equal(first, tiles_of(picture(0), config))
    assert cache.tiles_of(picture(0)) is first
    image[3, 4] += 1
    assert torch.equal(cache.tiles_of(image), tiles_of(image, config))
    turned = np.ascontiguousarray(picture(0).reshape(30, 20, 3))  # the same bytes
    assert torch.equal(cache.tiles_of(turned), tiles_of(turned, config))


def test_what_was_not_asked_for_the_longest_is_cut_again(config: RouterConfig) -> None:
    limit = 2 * tiles_of(picture(0), config).nbytes
    cache = TileCache(config, limit=limit)
    first, second = (cache.tiles_of(picture(seed)) for seed in range(2))
    assert cache.tiles_of(picture(0)) is first
    cache.tiles_of(picture(2))
    assert cache.tiles_of(picture(0)) is first
    assert cache.tiles_of(picture(1)) is not second


def test_what_is_no_picture_is_refused(config: RouterConfig) -> None:
    with pytest.raises(InputError, match="must be"):
        TileCache(config).tiles_of(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
