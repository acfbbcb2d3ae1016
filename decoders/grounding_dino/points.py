"""Mask losses on points instead of whole maps.

Source: Kirillov et al. 2020 (PointRend), section 3.2; Cheng et al. 2022 (Mask2Former), section 3.3.

Axes: M matched objects, P points, R maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.noise import Noise


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """(M, h, w) maps at (M, P, 2) x, y in [0, 1] -> (M, P), bilinear, zero outside."""
    grid = 2 * points[:, :, None] - 1
    return F.grid_sample(maps[:, None], grid, align_corners=False)[:, 0, :, 0]


def sample_rows(maps: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    """The same from map `rows[m]` of (R, H, W) maps of any type, without gradient or copies of maps."""
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1)
    x = points[..., 0] * width - 0.5
    y = points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    base = rows[:, None] * (height * width)
    total = torch.zeros_like(x)
    for down in (0, 1):
        for right in (0, 1):
            column, line = left + right, top + down
            weight = (1 - (x - column).abs()) * (1 - (y - line).abs())
            inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
            index = base + line.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            total += flat[index].float() * weight * inside
    return total


def draw_points(owners: Tensor, config: GroundingDinoConfig, noise: Noise) -> tuple[Tensor, Tensor]:
    """Candidates (M, oversample * P, 2) and uniform points (M, rest, 2)."""
    assert config.num_points is not None
    certain = config.num_points - int(config.uncertain * config.num_points)
    candidates = noise.uniform(owners, int(config.oversample * config.num_points), 2)
    return candidates, noise.uniform(owners, certain, 2)


@torch.no_grad()
def choose_points(logits: Tensor, candidates: Tensor, others: Tensor, config: GroundingDinoConfig) -> Tensor:
    """(M, P, 2): the candidates whose logits are nearest to zero, then `others`."""
    assert config.num_points is not None
    keep = int(config.uncertain * config.num_points)
    unsure = -sample(logits, candidates).abs()
    index = unsure.topk(keep, dim=1).indices
    chosen = candidates.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, others], 1)


def mask_terms(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(M, P) logits and labels in [0, 1] -> cross-entropy and dice, each (M,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    prob = logits.sigmoid()
    dice = 1 - (2 * (prob * labels).sum(1) + 1) / (prob.sum(1) + labels.sum(1) + 1)
    return entropy, dice
