"""Grounding DINO from pixels and class vectors to queries with boxes and class scores.

Axes: B pictures, S cells, Q queries, N denoising queries, K classes, L embeddings of a link, D link
width, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoFusionLayer,
    GroundingDinoMLPPredictionHead,
    GroundingDinoMultiscaleDeformableAttention,
)

from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.deformable import use_float32_sampling
from superlink.decoders.grounding_dino.denoising import Denoising
from superlink.decoders.grounding_dino.mask_branch import MaskBranch
from superlink.decoders.grounding_dino.pyramid import Pyramid, PyramidBuilder
from superlink.decoders.grounding_dino.transformer import Decoded, LinkDecoder, LinkEncoder


class ClassEmbed(nn.Module):
    """Class logits: dot products with the class vectors, -inf for padded classes.

    With a prior the products get a learned scale and bias, and a logit of "some object" that all
    classes share: otherwise class vectors learn that first, and become one and the same vector.
    Without (as published) nothing is added.
    """

    def __init__(self, d_model: int, prior: float | None) -> None:
        super().__init__()
        self.calibrated = prior is not None
        if prior is not None:
            # As a logarithm: the gradient of a bare factor sums every product of a step, and its norm
            # would drown that of all other parameters where gradients are clipped.
            self.log_scale = nn.Parameter(torch.tensor(-0.5 * math.log(d_model)))
            self.bias = nn.Parameter(torch.tensor(-math.log((1 - prior) / prior)))
            self.objectness = nn.Linear(d_model, 1, bias=False)
            nn.init.zeros_(self.objectness.weight)

    def forward(self, states: Tensor, classes: Tensor, class_mask: Tensor) -> Tensor:
        """(..., B, Q, d) and (B, K, d) -> (..., B, Q, K), in float32."""
        with torch.autocast(states.device.type, enabled=False):
            logits = states.float() @ classes.float().transpose(-1, -2)
            if self.calibrated:
                logits = logits * self.log_scale.exp() + self.objectness(states.float()) + self.bias
            return logits.masked_fill(~class_mask[:, None, :], -torch.inf)


def project_links(head: nn.Module, embeddings: Tensor) -> Tensor:
    """(B, K, L, D) to (B, K, d) in float32: every embedding of a link projected, then their mean."""
    projected: Tensor = head(embeddings.to(next(head.parameters()).dtype))
    return projected.float().mean(2)


def float32_boxes(head: nn.Module, states: Tensor, start: Tensor) -> Tensor:
    """cxcywh boxes: the head's change added to `start` before the sigmoid, in float32."""
    with torch.autocast(states.device.type, enabled=False):
        boxes: Tensor = (head(states.float()) + start).sigmoid()
        return boxes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposals:
    """The cells that the decoder starts from."""

    index: Tensor  # (B, Q) cells, best first
    logits: Tensor  # (B, Q, K)
    boxes: Tensor  # (B, Q, 4) cxcywh
    cell_logits: Tensor  # (B, S, K) of every cell
    cell_centres: Tensor  # (B or 1, S, 2) x, y in [0, 1] of the picture
    usable: Tensor  # (B or 1, S) bool
    early_logits: Tensor | None = None  # (B, S, K) of the cells before the encoder, in training


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """What `Detector` computes; denoising queries come first among the queries."""

    pyramid: Pyramid
    cells: Tensor  # (B, S, d) encoder output
    classes: Tensor  # (B, K, d) that scores are products with
    proposals: Proposals
    decoded: Decoded


class Detector(nn.Module):
    """Everything but the link projection and the heads that the decoder layers share."""

    def __init__(self, config: GroundingDinoConfig) -> None:
        super().__init__()
        width = config.d_model
        self.num_queries = config.num_queries
        self.direct = config.class_prior is not None
        self.hide_padding = config.dn_hide_padding
        self.pyramid = PyramidBuilder(config)
        self.encoder = LinkEncoder(config)
        self.decoder = LinkDecoder(config)
        self.enc_output = nn.Linear(width, width)
        self.enc_output_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.encoder_output_class_embed = ClassEmbed(width, config.class_prior)
        self.encoder_output_bbox_embed = GroundingDinoMLPPredictionHead(width, width, 4, 3)
        self.query_position_embeddings = nn.Embedding(config.num_queries, width)
        if config.mask_dim:
            self.mask_branch = MaskBranch(
                self.pyramid.mask_width,
                width,
                config.mask_hidden or width,
                config.mask_dim,
                groups=config.norm_groups,
            )
            self.mask_embed = GroundingDinoMLPPredictionHead(width, width, config.mask_dim, 3)
        initialise(self, config)
        use_float32_sampling(self)

    def forward(
        self,
        pixels: Tensor,
        valid: Tensor,
        classes: Tensor,
        class_mask: Tensor,
        denoising: Denoising | None,
        bbox_embed: nn.Module,
    ) -> Detection:
        """(B, 3, H, W) pixels, (B, H, W) bool, (B, K, d) class vectors, (B, K) bool."""
        pyramid = self.pyramid(pixels, valid)
        cells, texts = self.encoder(pyramid, classes, class_mask)
        # Published: scores against class vectors that looked at the picture. From scratch, the layers in
        # between make the classes of a picture alike long before they tell them apart.
        scored = classes.float() if self.direct else texts
        proposals = self.propose(pyramid, cells, scored, class_mask)
        queries, references, blocked = self.queries(proposals, denoising)
        decoded = self.decoder(
            queries,
            references,
            pyramid=pyramid,
            cells=cells,
            classes=texts,
            class_mask=class_mask,
            blocked=blocked,
            bbox_embed=bbox_embed,
        )
        return Detection(pyramid=pyramid, cells=cells, classes=scored, proposals=proposals, decoded=decoded)

    def propose(self, pyramid: Pyramid, cells: Tensor, classes: Tensor, class_mask: Tensor) -> Proposals:
        """The cells with the highest class scores, and their boxes."""
        start, usable = pyramid.proposals()
        objects, logits = self.score(cells, usable, classes, class_mask)
        # A small frame may have fewer cells than there are queries.
        count = min(self.num_queries, cells.shape[1])
        index = logits.detach().amax(-1).topk(count, dim=1).indices
        rows = torch.arange(len(cells), device=cells.device)[:, None]
        chosen = start.expand(len(cells), -1, -1)[rows, index]
        # Boxes of the chosen cells only: the head is row by row, so the others change nothing.
        boxes = float32_boxes(self.encoder_output_bbox_embed, objects[rows, index], chosen)
        learns_early = self.direct and self.training
        return Proposals(
            index=index,
            logits=logits[rows, index],
            boxes=boxes,
            cell_logits=logits,
            cell_centres=start[..., :2].sigmoid(),
            usable=usable,
            early_logits=self.score(pyramid.cells, usable, classes, class_mask)[1] if learns_early else None,
        )

    def queries(
        self, proposals: Proposals, denoising: Denoising | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, N + Q, d) queries of the first layer, their (B, N + Q, 4) boxes, and who must not see whom."""
        batch, count = proposals.index.shape
        content = self.query_position_embeddings.weight[:count].expand(batch, -1, -1)
        boxes = proposals.boxes.detach()
        if denoising is None:
            return content, boxes, None
        return (
            torch.cat([denoising.content.float(), content], 1),
            torch.cat([denoising.boxes.sigmoid(), boxes], 1),
            denoising.blocked(count, hide_padding=self.hide_padding),
        )

    def score(
        self, cells: Tensor, usable: Tensor, classes: Tensor, class_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features (B, S, d) and class logits (B, S, K) of every cell."""
        objects: Tensor = self.enc_output_norm(self.enc_output(cells.masked_fill(~usable[..., None], 0.0)))
        logits: Tensor = self.encoder_output_class_embed(objects, classes, class_mask)
        return objects, logits

    def mask_features(self, detection: Detection) -> Tensor:
        """(B, mask_dim, H/4, W/4)."""
        pyramid = detection.pyramid
        height, width = pyramid.shapes[0]
        encoded = detection.cells[:, : height * width].transpose(1, 2).unflatten(2, (height, width))
        features: Tensor = self.mask_branch(pyramid.mask_stage, encoded)
        return features


def initialise(detector: Detector, config: GroundingDinoConfig) -> None:
    """Fresh weights as in DINO: Xavier in the transformer, boxes that start at their reference."""
    for part in (detector.encoder, detector.decoder, detector.pyramid.input_proj_vision, detector.enc_output):
        part.apply(_xavier)
    for module in detector.modules():
        if isinstance(module, GroundingDinoMultiscaleDeformableAttention):
            _start_on_rays(module)
        elif isinstance(module, GroundingDinoFusionLayer):
            nn.init.constant_(module.vision_param, config.fusion_scale)
            nn.init.constant_(module.text_param, config.fusion_scale)
    start_at_reference(detector.encoder_output_bbox_embed)


def start_at_reference(head: GroundingDinoMLPPredictionHead) -> None:
    """A box head whose first answer is no change."""
    for parameter in head.layers[-1].parameters():
        nn.init.zeros_(parameter)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _start_on_rays(attention: GroundingDinoMultiscaleDeformableAttention) -> None:
    """Each head samples along its own direction, point p at distance p + 1 (Deformable DETR)."""
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    rays = torch.stack([angles.cos(), angles.sin()], -1)
    rays = rays / rays.abs().amax(-1, keepdim=True)
    reach = torch.arange(1, attention.n_points + 1)[:, None]
    offsets = (rays[:, None, None, :] * reach).expand(-1, attention.n_levels, -1, -1)
    nn.init.zeros_(attention.sampling_offsets.weight)
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(offsets.flatten())
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.zeros_(attention.attention_weights.bias)
