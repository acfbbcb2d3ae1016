"""Backbone features flattened into one sequence of cells over all levels.

Axes: B pictures, S cells of all levels, d width, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoSinePositionEmbedding

from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.mask_branch import PlainGroupNorm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pyramid:
    """What the encoder and the decoder layers look at. Batch 1 where all pictures share a value."""

    cells: Tensor  # (B, S, d)
    positions: Tensor  # (B or 1, S, d)
    valid: Tensor  # (B or 1, S) bool; False = padding
    padded: bool  # some cell is padding
    ratios: Tensor  # (B or 1, L, 2) width, height of the picture over those of the frame
    shapes: tuple[tuple[int, int], ...]  # (height, width) of each level
    mask_stage: Tensor | None  # (B, c, H/4, W/4) features for masks

    @property
    def sizes(self) -> Tensor:
        return torch.tensor(self.shapes, dtype=torch.long, device=self.cells.device)

    @property
    def starts(self) -> Tensor:
        areas = self.sizes.prod(1)
        return torch.cat([areas.new_zeros(1), areas.cumsum(0)[:-1]])

    def reference_points(self) -> Tensor:
        """(B or 1, S, L, 2) centre of each cell, in [0, 1] of the frame of every level."""
        rows = []
        for level, (height, width) in enumerate(self.shapes):
            y, x = _cell_centres(height, width, self.ratios)
            ratio = self.ratios[:, level, None]
            rows.append(torch.stack([x / (ratio[..., 0] * width), y / (ratio[..., 1] * height)], -1))
        return torch.cat(rows, 1)[:, :, None] * self.ratios[:, None]

    def proposals(self) -> tuple[Tensor, Tensor]:
        """A box before the sigmoid for every cell (B or 1, S, 4) cxcywh, and which are usable (B or 1, S)."""
        rows = []
        for level, (height, width) in enumerate(self.shapes):
            y, x = _cell_centres(height, width, self.ratios)
            ratio = self.ratios[:, level, None]
            centre = torch.stack([x / (ratio[..., 0] * width), y / (ratio[..., 1] * height)], -1)
            rows.append(torch.cat([centre, torch.full_like(centre, 0.05 * 2.0**level)], -1))
        boxes = torch.cat(rows, 1)
        usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1) & self.valid
        return torch.log(boxes / (1 - boxes)).masked_fill(~usable[..., None], torch.inf), usable


def _cell_centres(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(1, height * width) y and x of the cells, in cells."""
    y = torch.arange(height, dtype=torch.float32, device=like.device) + 0.5
    x = torch.arange(width, dtype=torch.float32, device=like.device) + 0.5
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return grid_y.reshape(1, -1), grid_x.reshape(1, -1)


def level_masks(valid: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """(B, H, W) bool to (B, h, w) of each level, by nearest cell."""
    return [F.interpolate(valid[:, None].float(), size=shape)[:, 0].bool() for shape in shapes]


class PyramidBuilder(nn.Module):
    """Backbone, projections to one width, positions."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__()
        self.backbone: Any = build_backbone(config.backbone)
        widths: list[int] = list(self.backbone.channels)
        self.mask_width = widths.pop(0) if config.mask_dim else 0
        self.position = GroundingDinoSinePositionEmbedding(config.layer_config())
        projections = []
        for level in range(config.num_feature_levels):
            extra = level - len(widths)
            source = widths[level] if extra < 0 else widths[-1] if extra == 0 else config.d_model
            conv = (
                nn.Conv2d(source, config.d_model, 1)
                if extra < 0
                else nn.Conv2d(source, config.d_model, 3, stride=2, padding=1)
            )
            projections.append(nn.Sequential(conv, PlainGroupNorm(config.norm_groups, config.d_model)))
        self.input_proj_vision = nn.ModuleList(projections)
        self.level_embed = nn.Parameter(torch.randn(config.num_feature_levels, config.d_model))

    def forward(self, pixels: Tensor, valid: Tensor) -> Pyramid:
        """(B, 3, H, W) normalised pixels, zero where `valid` (B, H, W) is False."""
        stages = list(self.backbone(pixels).feature_maps)
        mask_stage = stages.pop(0) if self.mask_width else None
        maps: list[Tensor] = []
        for level, project in enumerate(self.input_proj_vision):
            source = (
                stages[level] if level < len(stages) else stages[-1] if level == len(stages) else maps[-1]
            )
            maps.append(project(source))
        shapes = tuple((int(one.shape[-2]), int(one.shape[-1])) for one in maps)
        padded = not bool(valid.all())
        # One picture stands for all where none is padded.
        masks = level_masks(valid if padded else valid[:1], shapes)
        positions = [
            self.position(one, mask).flatten(2).transpose(1, 2) + self.level_embed[level]
            for level, (one, mask) in enumerate(zip(maps, masks, strict=True))
        ]
        return Pyramid(
            cells=torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1).float(),
            positions=torch.cat(positions, 1),
            valid=torch.cat([mask.flatten(1) for mask in masks], 1),
            padded=padded,
            ratios=torch.stack([valid_ratio(mask) for mask in masks], 1),
            shapes=shapes,
            mask_stage=mask_stage,
        )


def valid_ratio(mask: Tensor) -> Tensor:
    """(B, h, w) bool to (B, 2): share of the width and of the height that is picture."""
    height, width = mask.shape[-2:]
    return torch.stack([mask[:, 0].sum(1) / width, mask[:, :, 0].sum(1) / height], -1)


def build_backbone(config: Mapping[str, Any]) -> Any:
    """A transformers backbone with fresh weights; parts that no output uses are dropped."""
    options = dict(config)
    backbone: Any = AutoBackbone.from_config(AutoConfig.for_model(options.pop("model_type"), **options))
    if hasattr(backbone, "swin"):
        # The final norm feeds only the classification output: its weights would never get a gradient.
        backbone.swin.layernorm = nn.Identity()
    return backbone
