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
        if pooling == "cross_attn" and width % _ATTENTION_HEADS:
            raise ModelError(
                f"region_pooling 'cross_attn' needs a vision tower whose width is a multiple of "
                f"{_ATTENTION_HEADS}, got {width}; take another width or pooling"
            )
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
        weights = torch.stack(
            [
                self._weights(mask[0], features.shape[-1], level, region, sampler or self._sample)
                for region, mask in enumerate(masks)
            ]
        )
        with torch.autocast(features.device.type, enabled=False):
            pooled = (features.flatten(2).float() @ weights[..., None]).squeeze(-1)
        return pooled.to(features.dtype)

    def _weights(self, mask: Tensor, cells: int, level: int, region: int, sampler: PointSampler) -> Tensor:
        """(h * h,) share of every cell in the mean over sampled pixels of one (S, S) mask.

        The mean of bilinear samples is linear in the features, so that one product with these
        shares replaces sampling every channel at every pixel. Zeros for an empty mask; outside
        the grid features count as zero.
        """
        pixels = mask.nonzero()
        shares = torch.zeros(cells * cells, device=mask.device)
        if len(pixels) == 0:
            return shares
        chosen = sampler(pixels, level, region)
        # The corner of a pixel, not its middle, stands for it: row / S, column / S.
        side = torch.tensor(mask.shape, dtype=torch.float32, device=mask.device)
        at = chosen / side * cells - 0.5
        low = at.floor()
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            corner = low + torch.tensor([row, column], device=mask.device)
            near = (1 - (at - corner).abs()).prod(dim=1) / len(chosen)
            inside = ((corner >= 0) & (corner < cells)).all(dim=1)
            index = (corner[:, 0] * cells + corner[:, 1])[inside].long()
            shares.index_add_(0, index, near[inside])
        return shares

    def _sample(self, pixels: Tensor, level: int, region: int) -> Tensor:
        count = len(pixels)
        if count <= self.points:
            return pixels
        if self.training:
            return pixels[torch.randperm(count, device=pixels.device)[: self.points]]
        return pixels[torch.arange(self.points, device=pixels.device) * count // self.points]
