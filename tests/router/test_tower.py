"""Routers that see with CLIP, and routers that see with a backbone of convolutions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
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


def test_a_backbone_that_would_fetch_or_need_another_library_is_refused(config: RouterConfig) -> None:
    fields = {"model_type": "timm_backbone", "backbone": "resnet18", "image_size": 64, "patch_size": 16}
    with pytest.raises(ModelError, match=r"vision.*TimmBackboneConfig"):
        replace(config, vision=fields, vision_layer=-1)
