"""Encoder and decoder around transformers' Grounding DINO layers.

transformers' own loops assume a text model and a fixed number of queries; here text features are
super-links, masks are built only where something is padded, and denoising queries may be added.

Axes: B pictures, S cells, Q queries, K classes, d width, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoDecoderLayer,
    GroundingDinoEncoderLayer,
    GroundingDinoMLPPredictionHead,
    encode_sinusoidal_position_embedding,
)

from superlink.decoders.grounding_dino.boxes import inverse_sigmoid
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.pyramid import Pyramid


class LinkEncoder(nn.Module):
    """Pictures and classes look at each other, then each at itself, layer by layer."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__()
        layer_config = config.layer_config()
        self.d_model = config.d_model
        self.layers = nn.ModuleList(
            GroundingDinoEncoderLayer(layer_config) for _ in range(config.encoder_layers)
        )

    def forward(self, pyramid: Pyramid, classes: Tensor, class_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, d) classes and (B, K) bool -> cells (B, S, d) and classes (B, K, d)."""
        order = class_positions(class_mask)
        place = encode_sinusoidal_position_embedding(order[..., None].float(), num_pos_feats=self.d_model)
        allowed = allowed_classes(class_mask)
        hide_cells = ~pyramid.valid if pyramid.padded else None
        hide_classes = ~class_mask if not bool(class_mask.all()) else None
        points = pyramid.reference_points()
        cells = pyramid.cells
        layer: Any
        for layer in self.layers:
            (cells, _), (classes, _) = layer.fusion_layer(
                vision_features=cells,
                text_features=classes,
                attention_mask_vision=hide_cells,
                attention_mask_text=hide_classes,
            )
            classes, _ = layer.text_enhancer_layer(
                hidden_states=classes, attention_masks=allowed, position_embeddings=place
            )
            cells, _ = layer.deformable_layer(
                hidden_states=cells,
                attention_mask=pyramid.valid if pyramid.padded else None,
                position_embeddings=pyramid.positions,
                reference_points=points,
                spatial_shapes=pyramid.sizes,
                spatial_shapes_list=list(pyramid.shapes),
                level_start_index=pyramid.starts,
            )
        return cells, classes


def class_positions(class_mask: Tensor) -> Tensor:
    """(B, K) place of each class in its list; 0 for padding."""
    order = torch.arange(class_mask.shape[1], device=class_mask.device)
    return order.expand_as(class_mask) * class_mask


def allowed_classes(class_mask: Tensor) -> Tensor:
    """(B, K, K) bool: every class looks at every class of its picture, padding at itself."""
    together = class_mask[:, None, :] & class_mask[:, :, None]
    return together | torch.eye(class_mask.shape[1], dtype=torch.bool, device=class_mask.device)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """After each decoder layer, layers first."""

    states: Tensor  # (layers, B, Q, d), layer-normed
    references: Tensor  # (layers, B, Q, 4) cxcywh boxes that the layer STARTED from


class LinkDecoder(nn.Module):
    """Queries look at each other, at the classes and at the cells; their boxes are refined in turn."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__()
        layer_config = config.layer_config()
        self.d_model = config.d_model
        self.layers = nn.ModuleList(
            GroundingDinoDecoderLayer(layer_config) for _ in range(config.decoder_layers)
        )
        self.layer_norm = nn.LayerNorm(config.d_model, config.layer_norm_eps)
        self.reference_points_head = GroundingDinoMLPPredictionHead(
            2 * config.d_model, config.d_model, config.d_model, 2
        )

    def forward(
        self,
        queries: Tensor,
        references: Tensor,
        *,
        pyramid: Pyramid,
        cells: Tensor,
        classes: Tensor,
        class_mask: Tensor,
        blocked: Tensor | None,
        bbox_embed: nn.Module,
    ) -> Decoded:
        """(B, Q, d) queries with (B, Q, 4) boxes; `blocked` (1 or B, 1, Q, Q) True = must not look."""
        hide_classes = None
        if not bool(class_mask.all()):
            hide_classes = additive(~class_mask[:, None, None, :])
        hide_queries = None if blocked is None else additive(blocked)
        ratios = torch.cat([pyramid.ratios, pyramid.ratios], -1)[:, None]
        states, starts = [], []
        for layer in self.layers:
            points = references[:, :, None] * ratios
            place = encode_sinusoidal_position_embedding(points[:, :, 0], num_pos_feats=self.d_model // 2)
            queries = layer(
                hidden_states=queries,
                position_embeddings=self.reference_points_head(place),
                reference_points=points,
                spatial_shapes=pyramid.sizes,
                spatial_shapes_list=list(pyramid.shapes),
                level_start_index=pyramid.starts,
                vision_encoder_hidden_states=cells,
                vision_encoder_attention_mask=pyramid.valid if pyramid.padded else None,
                text_encoder_hidden_states=classes,
                text_encoder_attention_mask=hide_classes,
                self_attn_mask=hide_queries,
            )[0]
            states.append(self.layer_norm(queries))
            starts.append(references)
            with torch.no_grad(), torch.autocast(queries.device.type, enabled=False):
                references = (bbox_embed(queries.float()) + inverse_sigmoid(references)).sigmoid()
        return Decoded(states=torch.stack(states), references=torch.stack(starts))


def additive(blocked: Tensor) -> Tensor:
    """A bool mask as a float one to add to attention scores."""
    return torch.zeros(blocked.shape, device=blocked.device).masked_fill(
        blocked, torch.finfo(torch.float32).min
    )
