"""Mask branch: stride-4 features for masks, from the backbone's first stage and the encoder.

A mask is the dot product of a query's mask embedding with every cell of the feature map.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PlainGroupNorm(nn.GroupNorm):
    """Group norm on contiguous maps: on channels-last ones the CPU's backward takes ten times as long."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.contiguous())


class NormedConv(nn.Conv2d):
    """A convolution without bias, group norm, and optionally ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, groups: int, relu: bool) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = PlainGroupNorm(groups, outputs)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(features))
        return F.relu(normed) if self.relu else normed


class MaskBranch(nn.Module):
    """(B, c, H/4, W/4) stage and (B, d, H/8, W/8) encoder map to mask features (B, mask_dim, H/4, W/4)."""

    def __init__(self, stage_width: int, d_model: int, hidden: int, mask_dim: int, *, groups: int) -> None:
        super().__init__()
        self.lateral = NormedConv(stage_width, hidden, 1, groups=groups, relu=False)
        self.narrow = nn.Conv2d(d_model, hidden, 1) if hidden != d_model else nn.Identity()
        self.output = NormedConv(hidden, hidden, 3, groups=groups, relu=True)
        self.project = nn.Conv2d(hidden, mask_dim, 1)

    def forward(self, stage: Tensor, encoded: Tensor) -> Tensor:
        lateral = self.lateral(stage)
        size = lateral.shape[-2:]
        raised = F.interpolate(self.narrow(encoded), size=size, mode="bilinear", align_corners=False)
        features: Tensor = self.project(self.output(lateral + raised))
        return features
