"""The region encoder: a mask on a picture becomes one embedding.

Axes: R regions, S side of the tile, h side of the feature grid, C width of the vision tower,
N sampled mask pixels, D width of the language model.

Source: Wu et al. 2024 (VisionLLM v2), region encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superlink.router.config import RegionPooling
from superlink.router.errors import InputError, ModelError

# (pixels (N, 2) int64 of row and column, level, region) -> the (M, 2) of them to sample
PointSampler = Callable[[Tensor, int, int], Tensor]

_ATTENTION_HEADS = 8


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (R, C, h, w)."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)


class RegionEncoder(nn.Module):
    """Mask and picture through a convolutional stem, added to the tower's last levels, pooled."""

    def __init__(
        self,
        *,
        width: int,
        out_width: int,
        patch_size: int,
        pooling: RegionPooling = "grid_sample",
        points: int = 2304,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        if patch_size % 2:
            raise ModelError(f"the region encoder needs an even patch_size, got {patch_size}")
        self.pooling = pooling
        self.points = points
        self.stem = nn.Sequential(
            nn.Conv2d(4, hidden // 4, kernel_size=patch_size // 2, stride=patch_size // 2),
            ChannelNorm(hidden // 4, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(hidden // 4, hidden, kernel_size=2, stride=2),
            ChannelNorm(hidden, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(hidden, width, kernel_size=1),
        )
        if pooling == "cross_attn":
            self.query = nn.Embedding(1, width)
            self.attention = nn.MultiheadAttention(width, _ATTENTION_HEADS, batch_first=True)
        self.project = nn.Linear(width, out_width)

    def forward(
        self,
        images: Tensor,
        masks: Tensor,
        levels: Sequence[Tensor],
        *,
        sampler: PointSampler | None = None,
    ) -> Tensor:
        """Region embeddings, the mean over levels.

        Args:
            images: (R, 3, S, S) normalised overview tile of each region's picture.
            masks: (R, 1, S, S) 0/1.
            levels: (R, h * h, C) features of that tile without the class token, lowest first;
                each is added on top of the sum of those before it.
            sampler: chooses the mask pixels for "grid_sample". By default all of them; where there
                are more than `points`, an evenly strided subset, in training a random one.

        Returns:
            (R, D). An empty mask gives the projection's bias.
        """
        if images.shape[-2:] != masks.shape[-2:] or len(images) != len(masks):
            raise InputError(
                f"regions need masks of their tiles' shape, got tiles {tuple(images.shape)} "
                f"and masks {tuple(masks.shape)}"
            )
        dtype = self.project.weight.dtype
        features = self.stem(torch.cat([images, masks.to(images.dtype)], dim=1).to(dtype))
        outputs = []
        for level, tokens in enumerate(levels):
            grid = tokens.to(features.dtype).transpose(1, 2).reshape_as(features)
            features = features + grid
            outputs.append(self.project(self._pool(features, masks, level, sampler).to(dtype)))
        return torch.stack(outputs).mean(dim=0)

    def _pool(self, features: Tensor, masks: Tensor, level: int, sampler: PointSampler | None) -> Tensor:
        """(R, C, h, h) -> (R, C)."""
        if self.pooling == "mean":
            small = F.interpolate(
                masks.float(), size=features.shape[-2:], mode="bilinear", align_corners=False
            )
            return (features * (small > 0.5)).mean(dim=(-2, -1))
        if self.pooling == "cross_attn":
            tokens = features.flatten(2).transpose(1, 2)
            query = self.query.weight.expand(len(tokens), 1, -1)
            attended: Tensor = self.attention(query, tokens, tokens, need_weights=False)[0]
            return attended[:, 0]
        return torch.stack(
            [
                self._mean_at(features[region], masks[region, 0], level, region, sampler or self._sample)
                for region in range(len(features))
            ]
        )

    def _mean_at(
        self, features: Tensor, mask: Tensor, level: int, region: int, sampler: PointSampler
    ) -> Tensor:
        """Mean of (C, h, h) features at sampled pixels of one (S, S) mask; zeros for an empty one."""
        pixels = mask.nonzero()
        if len(pixels) == 0:
            return features.new_zeros(len(features))
        chosen = sampler(pixels, level, region)
        # The corner of a pixel, not its middle, stands for it: row / S, column / S.
        side = torch.tensor(mask.shape, dtype=torch.float32, device=mask.device)
        xy = (chosen / side).flip(-1)
        with torch.autocast(features.device.type, enabled=False):
            sampled = F.grid_sample(
                features[None].float(), (2.0 * xy - 1.0)[None, None], mode="bilinear", align_corners=False
            )
        return sampled.mean(dim=(0, 2, 3)).to(features.dtype)

    def _sample(self, pixels: Tensor, level: int, region: int) -> Tensor:
        count = len(pixels)
        if count <= self.points:
            return pixels
        if self.training:
            return pixels[torch.randperm(count, device=pixels.device)[: self.points]]
        return pixels[torch.arange(self.points, device=pixels.device) * count // self.points]
