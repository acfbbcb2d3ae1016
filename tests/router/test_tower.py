"""Routers that see with CLIP, and routers that see with a backbone of convolutions."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BitBackbone, BitConfig

from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError
from superlink.router.model import Router
from superlink.router.regions import RegionEncoder

BACKBONE: dict[str, Any] = {
    "model_type": "bit", "layer_type": "bottleneck", "embedding_size": 8, "depths": [1, 1, 1],
    "hidden_sizes": [16, 24, 32], "num_groups": 4, "out_features": ["stage3"],
    "image_size": 64, "patch_size": 16,
}  # fmt: skip


def convolved(config: RouterConfig, **changes: Any) -> RouterConfig:
    vision = {**BACKBONE, **changes.pop("vision", {})}
    return replace(config, vision=vision, vision_layer=-1, **changes)


def test_visual_tokens_are_the_cells_of_the_backbones_map_in_reading_order(config: RouterConfig) -> None:
    torch.manual_seed(0)
    router = Router(convolved(config, bridge="linear", pixel_shuffle=False)).eval()
    assert router.config.tokens_per_tile == 16
    fields = {
        name: value
        for name, value in BACKBONE.items()
        if name not in ("model_type", "image_size", "patch_size")
    }
    alone = BitBackbone(BitConfig(**fields)).eval()
    alone.load_state_dict(router.vision_tower.state_dict())
    tiles = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (features,) = alone(tiles).feature_maps
        found = router.see(tiles)
        expected = router.bridge(features.permute(0, 2, 3, 1).reshape(2, 16, 32))
    torch.testing.assert_close(found.tokens, expected)
    assert [level.shape for level in found.levels] == [(2, 16, 32)]


def test_two_by_two_cells_become_one_token(config: RouterConfig) -> None:
    router = Router(convolved(config, pixel_shuffle=True)).eval()
    assert router.config.tokens_per_tile == 4
    with torch.no_grad():
        assert router.see(torch.randn(1, 3, 64, 64)).tokens.shape == (1, 4, router.config.width)


def test_regions_are_told_apart_by_what_the_backbone_sees(config: RouterConfig) -> None:
    torch.manual_seed(0)
    router = Router(convolved(config)).eval()
    assert isinstance(router.region_encoder, RegionEncoder)
    tiles = torch.randn(1, 3, 64, 64)
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, :16, :16] = 1
    masks[1, :, 40:, 40:] = 1
    with torch.no_grad():
        levels = [level.expand(2, -1, -1) for level in router.see(tiles).levels]
        one, two = router.region_encoder(tiles.expand(2, -1, -1, -1), masks, levels)
    assert not torch.allclose(one, two)


def test_its_configuration_survives_json(config: RouterConfig) -> None:
    before = convolved(config)
    assert RouterConfig.from_json(before.to_json()) == before


@pytest.mark.parametrize(
    ("vision", "complaint"),
    [
        ({"out_features": ["stage2", "stage3"]}, "gives one feature map, got out_features"),
        ({"model_type": "no-such-model"}, "no-such-model"),
        ({"model_type": "gpt2"}, "unknown to GPT2Config|not the configuration of a backbone"),
        ({"colour": "red"}, "unknown to BitConfig.*colour"),
        ({"patch_size": None}, "patch_size must be one number"),
        ({"image_size": 72}, "image_size must be a multiple of"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_in_one_line(
    config: RouterConfig, vision: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        convolved(config, vision=vision)
    assert "\n" not in str(caught.value)


def test_a_stride_that_is_not_the_backbones_is_named(config: RouterConfig) -> None:
    router = Router(convolved(config, vision={"patch_size": 32}, region_encoder=False))
    with pytest.raises(ModelError, match="makes 4 x 4 features of a tile of 64 pixels; with patch_size 32"):
        router.see(torch.randn(1, 3, 64, 64))


RESNET: dict[str, Any] = {
    "model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 16, 16], "out_features": ["stage3"], "image_size": 64, "patch_size": 16,
}  # fmt: skip
SWIN: dict[str, Any] = {
    "model_type": "swin", "embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 1, 2, 2],
    "window_size": 4, "drop_path_rate": 0.9, "out_features": ["stage3"], "image_size": 64, "patch_size": 16,
}  # fmt: skip
CONVNEXT: dict[str, Any] = {
    "model_type": "convnext", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16],
    "drop_path_rate": 0.9, "out_features": ["stage3"], "image_size": 64, "patch_size": 16,
}  # fmt: skip


@pytest.mark.parametrize("vision", [RESNET, SWIN, CONVNEXT], ids=["resnet", "swin", "convnext"])
def test_a_frozen_tower_is_the_same_tower_while_the_rest_learns(
    config: RouterConfig, vision: dict[str, Any]
) -> None:
    router = Router(replace(config, vision=vision, vision_layer=-1))
    before = copy.deepcopy(router.vision_tower.state_dict())
    tiles = torch.randn(16, 3, 64, 64)
    with torch.no_grad():
        served = copy.deepcopy(router).eval().see(tiles).levels[0]
    holder = nn.ModuleList([router])  # whoever trains calls train() of what holds the router
    for _ in range(2):  # also after a break for validation
        holder.eval()
        holder.train()
        assert router.bridge.training
        torch.testing.assert_close(router.see(tiles).levels[0], served, rtol=0, atol=0)
    for name, tensor in router.vision_tower.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_tower_that_learns_drops_paths_in_training_alone(config: RouterConfig) -> None:
    router = Router(replace(config, vision=SWIN, vision_layer=-1, freeze_vision=False)).train()
    tiles = torch.randn(16, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(router.see(tiles).tokens, router.see(tiles).tokens)
        assert torch.equal(router.eval().see(tiles).tokens, router.see(tiles).tokens)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "vision", [BACKBONE, RESNET, SWIN, CONVNEXT], ids=["bit", "resnet", "swin", "convnext"]
)
def test_backbones_see_in_the_precision_of_their_weights(
    config: RouterConfig, vision: dict[str, Any], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    router = Router(replace(config, vision=vision, vision_layer=-1)).eval()
    tiles = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        full = router.see(tiles).tokens
        half = router.to(dtype).see(tiles).tokens
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1 * float(full.abs().max()))


def test_a_backbone_that_would_fetch_or_need_another_library_is_refused(config: RouterConfig) -> None:
    fields = {"model_type": "timm_backbone", "backbone": "resnet18", "image_size": 64, "patch_size": 16}
    with pytest.raises(ModelError, match=r"vision.*TimmBackboneConfig"):
        replace(config, vision=fields, vision_layer=-1)
