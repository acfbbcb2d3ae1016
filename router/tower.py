"""What the router sees with: CLIP, or a convolutional backbone of transformers.

Published systems see with CLIP, which hundreds of millions of pictures taught. A tower that learns from few
learns faster as convolutions, and may begin as the backbone of a detector (ConvLLaVA, Ge et al. 2024, sees
with convolutions too).

Axes: P tiles, S their side, h side of the grid of patches, C width of the tower.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoBackbone, CLIPVisionModel, PreTrainedModel
from transformers.backbone_utils import BackboneMixin

from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError

_REGION_LEVELS = 3  # of CLIP's last hidden states, for the region encoder


def build_tower(config: RouterConfig) -> PreTrainedModel:
    """A vision tower with fresh weights."""
    if not config.sees_through_backbone:
        return CLIPVisionModel(config.vision_config())
    backbone: PreTrainedModel = AutoBackbone.from_config(config.backbone_config())
    return backbone


def tower_width(tower: nn.Module) -> int:
    """C."""
    if isinstance(tower, CLIPVisionModel):
        return int(tower.config.hidden_size)
    assert isinstance(tower, BackboneMixin)
    return int(tower.channels[-1])


def look(tower: nn.Module, tiles: Tensor, config: RouterConfig) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Features of tiles, patch by patch in reading order.

    Args:
        tiles: (P, 3, S, S), normalised.

    Returns:
        (P, h * h, C) for the bridge, and the same for each level of the region encoder.

    Raises:
        ModelError: a backbone whose map has another stride than its configuration says.
    """
    if isinstance(tower, CLIPVisionModel):
        states = tower(tiles, output_hidden_states=True).hidden_states
        return states[config.vision_layer][:, 1:], tuple(state[:, 1:] for state in states[-_REGION_LEVELS:])
    assert isinstance(tower, PreTrainedModel)
    output: Any = tower(tiles.to(tower.dtype))  # CLIP does so itself
    features: Tensor = output.feature_maps[-1]
    side = config.image_size // config.patch_size
    if features.shape[-2:] != (side, side):
        raise ModelError(
            f"the vision tower makes {features.shape[-2]} x {features.shape[-1]} features of a tile of "
            f"{config.image_size} pixels; with patch_size {config.patch_size} it should be {side} x {side}"
        )
    tokens = features.flatten(2).transpose(1, 2)
    return tokens, (tokens,)
