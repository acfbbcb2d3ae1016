"""UniPose from pixels, class vectors and keypoint vectors to instances with boxes and keypoints.

The first decoder layers refine boxes, as in the detector. The best boxes then become instances: each
gets a query for every keypoint, and the remaining layers refine boxes and keypoints together.

Axes: B calls, K classes, P keypoint slots, Q box queries, N denoising queries, G instances, S = 1 + P
queries of an instance, d width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoMLPPredictionHead,
    encode_sinusoidal_position_embedding,
)

from superlink.decoders.grounding_dino.boxes import inverse_sigmoid
from superlink.decoders.grounding_dino.denoising import Denoising
from superlink.decoders.grounding_dino.model import (
    ClassEmbed,
    Detector,
    Proposals,
    float32_boxes,
    start_at_reference,
)
from superlink.decoders.grounding_dino.pyramid import Pyramid
from superlink.decoders.grounding_dino.transformer import additive
from superlink.decoders.unipose.config import UniPoseConfig
from superlink.decoders.unipose.instances import Instances, legacy_blocked, use_instance_attention

COCO_KEYPOINTS = 17
EPS = 1e-3  # of the inverse sigmoid; the published detector has 1e-5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What one decoder layer says about some queries."""

    logits: Tensor  # (B, Q or G, K) float32; -inf for padded classes
    boxes: Tensor  # (B, Q or G, 4) float32 cxcywh of the picture
    keypoints: Tensor | None = None  # (B, G, P, 2) float32 x, y of the picture; None in the box layers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Poses:
    """What `PoseDetector` computes, a tuple entry for each decoder layer."""

    pyramid: Pyramid
    cells: Tensor  # (B, S, d) encoder output
    classes: Tensor  # (B, K, d) that scores are products with
    proposals: Proposals
    layers: tuple[Prediction, ...]
    denoised: tuple[Prediction, ...]  # of the N denoising queries; empty without
    states: tuple[Tensor, ...]  # (B, N + Q or N + G * S, d), layer-normed
    starts: tuple[Tensor, ...]  # as many cxcywh boxes, which the layer started from
    selected: Tensor  # (B, G) box queries that became instances


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What every decoder layer looks at, and how the queries are laid out."""

    pyramid: Pyramid
    cells: Tensor  # (B, S, d)
    texts: Tensor  # (B, K, d) class vectors that layers look at
    scored: Tensor  # (B, K, d) class vectors that scores are products with
    class_mask: Tensor  # (B, K) bool
    noised: int  # N
    size: int  # S of an instance

    def instances(self, rows: Tensor) -> Tensor:
        """(B, N + G * S, c) -> (B, G, S, c), without the denoising queries."""
        inside: Tensor = rows[:, self.noised :].unflatten(1, (-1, self.size))
        return inside


class PoseDetector(nn.Module):
    """Everything but the projections of the links."""

    def __init__(self, config: UniPoseConfig) -> None:
        super().__init__()
        width = config.detector.d_model
        self.config = config
        self.base = Detector(config.detector)
        use_instance_attention(self.base.decoder.layers, config.detector.layer_config())
        self.class_embed = ClassEmbed(width, config.detector.class_prior)
        self.bbox_embed = GroundingDinoMLPPredictionHead(width, width, 4, 3)
        self.pose_embed = GroundingDinoMLPPredictionHead(width, width, 2, 3)
        self.pose_hw_embed = GroundingDinoMLPPredictionHead(width, width, 2, 3)
        start_at_reference(self.bbox_embed)
        start_at_reference(self.pose_embed)
        # Size of each slot's reference over that of the box, before the sigmoid. In two tables, as
        # published: the first is for as many keypoints as COCO has.
        rows = [min(COCO_KEYPOINTS, config.max_keypoints), max(0, config.max_keypoints - COCO_KEYPOINTS)]
        self.keypoint_sizes = nn.ParameterList(nn.Parameter(torch.zeros(count, 2)) for count in rows if count)

    def forward(
        self,
        pixels: Tensor,
        valid: Tensor,
        classes: Tensor,
        class_mask: Tensor,
        points: Tensor,
        point_mask: Tensor,
        denoising: Denoising | None,
    ) -> Poses:
        """Pictures, classes and keypoints of a batch to what every layer says.

        Args:
            pixels: (B, 3, H, W) normalised.
            valid: (B, H, W) bool.
            classes: (B, K, d) class vectors.
            class_mask: (B, K) bool.
            points: (B, P, d) keypoint vectors, zero where `point_mask` is False.
            point_mask: (B, P) bool.
            denoising: queries that are put before the others.
        """
        base = self.base
        scene, proposals = self._look(pixels, valid, classes, class_mask, denoising, points.shape[1])
        queries, start, blocked = base.queries(proposals, denoising)
        mask: Tensor | Instances | None = None if blocked is None else additive(blocked)
        said: list[tuple[Prediction, Prediction]] = []
        states, starts = [], []
        selected = proposals.index[:, :0]
        for index, layer in enumerate(base.decoder.layers):
            queries = self._attend(layer, queries, start.detach(), scene, mask)
            states.append(base.decoder.layer_norm(queries))
            starts.append(start)
            posed = index >= self.config.box_layers
            said.append(self._say(states[-1], start, scene, posed=posed))
            if index + 1 == len(base.decoder.layers):
                break
            # Layers look around detached boxes, but what the next one says is learned by this one as well.
            start = self._refine(queries, start.detach(), scene, posed=posed)
            if index + 1 == self.config.box_layers:
                selected = self._select(queries[:, scene.noised :], scene)
                queries, start = self._unfold(queries, start, scene, selected, points)
                mask = self._inside(point_mask, selected.shape[1], denoising)
        return Poses(
            pyramid=scene.pyramid,
            cells=scene.cells,
            classes=scene.scored,
            proposals=proposals,
            layers=tuple(prediction for prediction, _ in said),
            denoised=tuple(prediction for _, prediction in said) if scene.noised else (),
            states=tuple(states),
            starts=tuple(starts),
            selected=selected,
        )

    def _look(
        self,
        pixels: Tensor,
        valid: Tensor,
        classes: Tensor,
        class_mask: Tensor,
        denoising: Denoising | None,
        slots: int,
    ) -> tuple[Scene, Proposals]:
        """Encode pictures and classes together, and pick the cells to start from."""
        base = self.base
        pyramid = base.pyramid(pixels, valid)
        cells, texts = base.encoder(pyramid, classes, class_mask)
        scored = classes.float() if base.direct else texts
        proposals = base.propose(pyramid, cells, scored, class_mask)
        scene = Scene(
            pyramid=pyramid,
            cells=cells,
            texts=texts,
            scored=scored,
            class_mask=class_mask,
            noised=0 if denoising is None else denoising.boxes.shape[1],
            size=1 + slots,
        )
        return scene, proposals

    def _attend(
        self,
        layer: Any,
        queries: Tensor,
        references: Tensor,
        scene: Scene,
        mask: Tensor | Instances | None,
    ) -> Tensor:
        """One decoder layer; `references` (B, as many, 4) are the boxes that queries look around."""
        pyramid = scene.pyramid
        points = references[:, :, None] * torch.cat([pyramid.ratios, pyramid.ratios], -1)[:, None]
        place = encode_sinusoidal_position_embedding(
            points[:, :, 0], num_pos_feats=self.config.detector.d_model // 2
        )
        hide_classes = None
        if not bool(scene.class_mask.all()):
            hide_classes = additive(~scene.class_mask[:, None, None, :])
        out: Tensor = layer(
            hidden_states=queries,
            position_embeddings=self.base.decoder.reference_points_head(place),
            reference_points=points,
            spatial_shapes=pyramid.sizes,
            spatial_shapes_list=list(pyramid.shapes),
            level_start_index=pyramid.starts,
            vision_encoder_hidden_states=scene.cells,
            vision_encoder_attention_mask=pyramid.valid if pyramid.padded else None,
            text_encoder_hidden_states=scene.texts,
            text_encoder_attention_mask=hide_classes,
            self_attn_mask=mask,
        )[0]
        return out

    def _say(
        self, states: Tensor, start: Tensor, scene: Scene, *, posed: bool
    ) -> tuple[Prediction, Prediction]:
        """Predictions of the queries proper and of the denoising queries."""
        own, own_start, keypoints = states[:, scene.noised :], start[:, scene.noised :], None
        if posed:
            inside, inside_start = scene.instances(states), scene.instances(start)
            own, own_start = inside[:, :, 0], inside_start[:, :, 0]
            place = inverse_sigmoid(inside_start[:, :, 1:, :2], EPS)
            keypoints = float32_boxes(self.pose_embed, inside[:, :, 1:], place)
        other, other_start = states[:, : scene.noised], start[:, : scene.noised]
        return (
            replace(self._boxes(own, own_start, scene), keypoints=keypoints),
            self._boxes(other, other_start, scene),
        )

    def _boxes(self, states: Tensor, start: Tensor, scene: Scene) -> Prediction:
        return Prediction(
            logits=self.class_embed(states, scene.scored, scene.class_mask),
            boxes=float32_boxes(self.bbox_embed, states, inverse_sigmoid(start, EPS)),
        )

    def _refine(self, queries: Tensor, start: Tensor, scene: Scene, *, posed: bool) -> Tensor:
        """The boxes that the next layer starts from, of every query."""
        if not posed:
            return float32_boxes(self.bbox_embed, queries, inverse_sigmoid(start, EPS))
        noised = slice(0, scene.noised)
        others = float32_boxes(self.bbox_embed, queries[:, noised], inverse_sigmoid(start[:, noised], EPS))
        inside, before = scene.instances(queries), inverse_sigmoid(scene.instances(start), EPS)
        boxes = float32_boxes(self.bbox_embed, inside[:, :, :1], before[:, :, :1])
        centres = float32_boxes(self.pose_embed, inside[:, :, 1:], before[:, :, 1:, :2])
        sizes = float32_boxes(self.pose_hw_embed, inside[:, :, 1:], before[:, :, 1:, 2:])
        refined = torch.cat([boxes, torch.cat([centres, sizes], -1)], 2)
        return torch.cat([others, refined.flatten(1, 2)], 1)

    @torch.no_grad()
    def _select(self, queries: Tensor, scene: Scene) -> Tensor:
        """(B, G) the box queries with the best class scores, best first."""
        logits = self.class_embed(queries, scene.scored, scene.class_mask)
        count = min(self.config.num_instances, queries.shape[1])
        best: Tensor = logits.amax(-1).topk(count, dim=1).indices
        return best

    def _unfold(
        self, queries: Tensor, start: Tensor, scene: Scene, selected: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries and boxes of the selected instances, each with a query for every keypoint slot."""
        noised, rows = scene.noised, torch.arange(len(selected), device=selected.device)[:, None]
        content = queries[:, noised:][rows, selected][:, :, None]
        boxes = start[:, noised:][rows, selected][:, :, None]
        own = points.to(content.dtype)[:, None].expand(-1, selected.shape[1], -1, -1)
        centres = float32_boxes(self.pose_embed, own, inverse_sigmoid(boxes[..., :2], EPS))
        shares = torch.cat(list(self.keypoint_sizes))[: points.shape[1]].sigmoid()
        sizes = shares * boxes[..., 2:]
        content = torch.cat([content, own], 2).flatten(1, 2)
        places = torch.cat([boxes, torch.cat([centres, sizes], -1)], 2).flatten(1, 2)
        return torch.cat([queries[:, :noised], content], 1), torch.cat([start[:, :noised], places], 1)

    def _inside(self, point_mask: Tensor, count: int, denoising: Denoising | None) -> Tensor | Instances:
        """The mask of the layers that see instances."""
        used = torch.cat([torch.ones_like(point_mask[:, :1]), point_mask], 1)
        if self.config.legacy_group_mask and not self.training:
            return additive(legacy_blocked(used, count))
        return Instances.of(used, count, denoising, hide_padding=self.base.hide_padding)
