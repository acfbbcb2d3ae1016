"""Weights to learn from, where there are none yet: signals keep their size, and prompts are found at once.

A cell of the picture and a prompt know their places by the same encoding, but attention compares them after
two layers that know nothing of each other. When those begin alike, cells attend to the prompts near them
from the first step on, instead of after hundreds of steps in which every mask is the same guess.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers.models.sam.modeling_sam import SamAttention, SamMaskDecoder, SamVisionEncoder

# Of the layers that compare places: a prompt's own cell then outweighs what it has in common by chance.
_SHARP = 2.0
_QUIET = 0.01  # variance of what is answered first: masks and scores begin in the middle
_POSITIONS = 0.5  # of the encoding of its place, in a patch's first embedding


@torch.no_grad()
def begin_encoder(encoder: SamVisionEncoder, positions: torch.Tensor) -> None:
    """Layers that keep their inputs' variance, small residual branches, patches that know where they are.

    Args:
        positions: (1, c, g, g) encoding of the cells; used where a patch is as wide.

    Source: Glorot and Bengio 2010; Radford et al. 2019, section 2.3, of residual branches.
    """
    branches = math.sqrt(2 * len(encoder.layers))
    for name, layer in encoder.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            deviation = layer.weight[0].numel() ** -0.5
            if name.endswith(("attn.proj", "mlp.lin2")):
                deviation /= branches
            _draw(layer, deviation)
    place = encoder.pos_embed
    if place is not None and place.shape[-1] == positions.shape[1]:
        place.copy_(_POSITIONS * positions.permute(0, 2, 3, 1))


@torch.no_grad()
def begin_decoder(decoder: SamMaskDecoder) -> None:
    """Layers that keep their inputs' variance, quiet answers, attention by place between prompts and cells.

    Source: He et al. 2015, of layers that a rectifier follows.
    """
    for name, layer in decoder.named_modules():
        if isinstance(layer, nn.Linear):
            head = name.startswith(("output_hypernetworks_mlps", "iou_prediction_head"))
            quiet, rectified = name.endswith("proj_out"), head or name.endswith("lin1")
            _draw(layer, math.sqrt((_QUIET if quiet else 2.0 if rectified else 1.0) / layer.in_features))
        elif isinstance(layer, nn.ConvTranspose2d):  # of stride 2 and as wide: one tap a pixel
            _draw(layer, math.sqrt(2.0 / layer.in_channels))
    for name, attention in decoder.transformer.named_modules():
        if isinstance(attention, SamAttention) and not name.endswith("self_attn"):
            nn.init.orthogonal_(attention.q_proj.weight, gain=_SHARP)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def _draw(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, deviation: float) -> None:
    nn.init.normal_(layer.weight, std=deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
