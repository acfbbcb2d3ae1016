"""The region encoder: which pixels it reads, and what it makes of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from superlink.router.config import RegionPooling
from superlink.router.errors import InputError, ModelError
from superlink.router.regions import RegionEncoder

SIDE, PATCH, WIDTH, OUT = 28, 14, 8, 12
CELLS = SIDE // PATCH


def encoder(pooling: RegionPooling = "grid_sample", points: int = 2304) -> RegionEncoder:
    torch.manual_seed(3)
    return RegionEncoder(
        width=WIDTH, out_width=OUT, patch_size=PATCH, pooling=pooling, points=points, hidden=16
    ).eval()


def inputs(count: int = 2) -> tuple[Tensor, Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    masks = (torch.rand(count, 1, SIDE, SIDE, generator=generator) > 0.7).float()
    levels = [torch.randn(count, CELLS * CELLS, WIDTH, generator=generator) for _ in range(3)]
    return images, masks, levels


def bilinear(grid: Tensor, row: float, column: float) -> Tensor:
    """Value of (C, h, w) at a point of the unit square, cell middles at (i + 0.5) / h, zeros outside."""
    y, x = row * grid.shape[1] - 0.5, column * grid.shape[2] - 0.5
    total = torch.zeros(len(grid))
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < grid.shape[1] and 0 <= j < grid.shape[2]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * grid[:, i, j]
    return total


def test_a_region_is_the_mean_over_its_pixels_at_their_corners() -> None:
    images, masks, levels = inputs(1)
    model = encoder()
    with torch.no_grad():
        grid = model.stem(torch.cat([images, masks], dim=1))
        outputs = []
        for level in levels:
            grid = grid + level.transpose(1, 2).reshape(1, WIDTH, CELLS, CELLS)
            at = [bilinear(grid[0], r / SIDE, c / SIDE) for r, c in masks[0, 0].nonzero().tolist()]
            outputs.append(model.project(torch.stack(at).mean(dim=0)))
        torch.testing.assert_close(model(images, masks, levels)[0], torch.stack(outputs).mean(dim=0))


def test_reading_a_trained_region_twice_gives_the_same() -> None:
    images, masks, levels = inputs()
    model = encoder(points=20)
    torch.testing.assert_close(model(images, masks, levels), model(images, masks, levels), rtol=0, atol=0)


def test_a_large_mask_is_thinned_evenly_when_serving_and_at_random_when_training() -> None:
    model = encoder(points=10)
    pixels = torch.stack([torch.arange(95), torch.arange(95)], dim=1)
    served = model._sample(pixels, 0, 0)[:, 0]
    assert len(served) == 10
    assert set(served.diff().tolist()) <= {9, 10}
    model.train()
    drawn = [model._sample(pixels, 0, 0)[:, 0] for _ in range(2)]
    assert len(drawn[0].unique()) == 10
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(model._sample(pixels[:7], 0, 0), pixels[:7])


@pytest.mark.parametrize("pooling", ["grid_sample", "mean"])
def test_an_empty_mask_gives_the_bias_of_the_projection(pooling: RegionPooling) -> None:
    images, masks, levels = inputs()
    model = encoder(pooling)
    found = model(images, torch.zeros_like(masks), levels)
    torch.testing.assert_close(found, model.project.bias.expand_as(found))


@pytest.mark.parametrize("pooling", ["grid_sample", "mean", "cross_attn"])
def test_regions_do_not_see_one_another_and_every_weight_learns(pooling: RegionPooling) -> None:
    images, masks, levels = inputs()
    model = encoder(pooling)
    together = model(images, masks, levels)
    alone = model(images[1:], masks[1:], [level[1:] for level in levels])
    torch.testing.assert_close(together[1:], alone)
    together.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_attention_needs_a_tower_whose_width_its_heads_share() -> None:
    with pytest.raises(ModelError, match=r"'cross_attn' needs .* multiple of 8, got 12"):
        RegionEncoder(width=12, out_width=OUT, patch_size=PATCH, pooling="cross_attn")


def test_masks_of_another_size_than_their_tiles_raise() -> None:
    images, masks, levels = inputs()
    with pytest.raises(InputError, match=r"\(2, 3, 28, 28\) and masks \(2, 1, 14, 28\)"):
        encoder()(images, masks[:, :, ::2], levels)
