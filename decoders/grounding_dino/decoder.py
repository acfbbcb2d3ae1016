"""The decoder: links and pictures in, boxes and masks out; the contract around the detector.

Axes: B calls, K links of a call, L embeddings of a link, D link width, Q queries, N denoising
queries, d width, T decoder layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from superlink.decoders.artifacts import Artifact, IntArray, Masks
from superlink.decoders.contract import Call, Decoder
from superlink.decoders.grounding_dino.boxes import inverse_sigmoid
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.denoising import Denoising, build_denoising
from superlink.decoders.grounding_dino.dense import backbone_term, dense_terms
from superlink.decoders.grounding_dino.inputs import (
    DetectionInputs,
    by_frame,
    in_order,
    links_of,
    pictures_in_frame,
    targets_in_frame,
)
from superlink.decoders.grounding_dino.losses import (
    Matched,
    Stage,
    Targets,
    class_and_box_terms,
    class_and_box_weights,
    denoising_stages,
    mask_logits,
    mask_loss_terms,
    stage_suffixes,
)
from superlink.decoders.grounding_dino.matching import match
from superlink.decoders.grounding_dino.model import (
    ClassEmbed,
    Detection,
    Detector,
    float32_boxes,
    project_links,
    start_at_reference,
)
from superlink.decoders.grounding_dino.noise import SeededNoise
from superlink.decoders.grounding_dino.results import cut_at_boxes
from superlink.decoders.grounding_dino.serving import answer, chosen_items, refuse_damaged
from superlink.router.errors import DecoderError, ModelError
from superlink.router.links import LinkBatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerOutputs:
    """Predictions of every decoder layer."""

    states: Tensor  # (T, B, Q, d)
    logits: Tensor  # (T, B, Q, K) float32; -inf for padded classes
    boxes: Tensor  # (T, B, Q, 4) float32 cxcywh of the picture

    def part(self, start: int, stop: int | None) -> LayerOutputs:
        """Queries `start` to `stop`."""
        span = slice(start, stop)
        return LayerOutputs(
            states=self.states[:, :, span], logits=self.logits[:, :, span], boxes=self.boxes[:, :, span]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionOutputs:
    layers: LayerOutputs
    class_mask: Tensor  # (B, K) bool
    detection: Detection
    mask_features: Tensor | None  # (B, C, H/4, W/4) where a call wants masks
    denoising: Denoising | None
    denoised: LayerOutputs | None
    more: tuple[DetectionOutputs, ...] = ()  # of further frames of a batch that is served, see `by_frame`


class GroundingDinoDecoder(Decoder[DetectionInputs, DetectionOutputs]):
    """Boxes and masks of everything that the links of a call stand for."""

    half_weights = False

    def __init__(self, config: GroundingDinoConfig, link_dim: int) -> None:
        super().__init__()
        # Not where a configuration is made: UniPose reads the sizes of one without masks, with any routes.
        masked = [route.token.text for route in config.routes if route.returns is Masks]
        if masked and not config.mask_dim:
            raise ModelError(
                f"{config.name} has mask_dim 0, but its routes {masked} return masks; leave them out, or "
                f"give it a mask branch"
            )
        width = config.d_model
        self.config: GroundingDinoConfig = config
        self.link_dim = link_dim
        self.image_side: int | None = None  # longest side of the frame; None = the config's
        self.patch2query = GroundingDinoMLPPredictionHead(link_dim, width, width, 3)
        self.model = Detector(config)
        self.class_embed = ClassEmbed(width, config.class_prior)
        self.bbox_embed = GroundingDinoMLPPredictionHead(width, width, 4, 3)
        start_at_reference(self.bbox_embed)
        if config.mask_dim:
            self.mask_embed = GroundingDinoMLPPredictionHead(width, width, config.mask_dim, 3)

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> DetectionInputs:
        """Raises InputError for a call without picture, DataError for labels that do not fit."""
        config, device = self.config, self.device
        boxes, pixels, valid = pictures_in_frame(config.pictures(calls), config, self.image_side, device)
        known: Targets | None = None
        if targets is not None:
            known = targets_in_frame(calls, targets, boxes, (pixels.shape[2], pixels.shape[3]), device)
        return DetectionInputs(
            calls=tuple(calls),
            routes=tuple(config.route(call) for call in calls),
            letterboxes=boxes,
            pixels=pixels,
            valid=valid,
            targets=known,
            noise=None if known is None else SeededNoise.of(calls),
            apart=known is None and not config.square,
        )

    def project(self, links: LinkBatch) -> Tensor:
        """(B, K, d) class vectors."""
        return project_links(self.patch2query, self.embeddings_of(links))

    def forward(self, links: LinkBatch, inputs: DetectionInputs) -> DetectionOutputs:
        """(B, K, L, D) links, one for each class, to what every decoder layer says of every query.

        Boxes are cxcywh in shares of each picture's own sides. Denoising queries come with targets in
        training only.

        Raises:
            LinkError: links of another width than the decoder was built for.
        """
        parts = by_frame(inputs)
        if len(parts) == 1:
            return self.detect(links, parts[0][1])
        first, *more = (self.detect(links_of(links, rows), part) for rows, part in parts)
        return replace(first, more=tuple(more))

    def detect(self, links: LinkBatch, inputs: DetectionInputs) -> DetectionOutputs:
        """What `forward` gives for calls in one frame."""
        classes = self.project(links)
        denoising = None
        if self.training and inputs.targets is not None and inputs.noise is not None:
            counts = links.mask.sum(1)
            denoising = build_denoising(
                inputs.targets.labels, inputs.targets.boxes, classes, counts, self.config, inputs.noise
            )
        detection: Detection = self.model(
            inputs.pixels, inputs.valid, classes, links.mask, denoising, self.bbox_embed
        )
        states = detection.decoded.states
        layers = LayerOutputs(
            states=states,
            logits=self.class_embed(states, detection.classes, links.mask),
            boxes=float32_boxes(self.bbox_embed, states, inverse_sigmoid(detection.decoded.references)),
        )
        noised = 0 if denoising is None else denoising.boxes.shape[1]
        wants_masks = self.config.mask_dim > 0 and inputs.wants_masks
        return DetectionOutputs(
            layers=layers.part(noised, None),
            class_mask=links.mask,
            detection=detection,
            mask_features=self.model.mask_features(detection) if wants_masks else None,
            denoising=denoising,
            denoised=None if denoising is None else layers.part(0, noised),
        )

    def count(self, inputs: DetectionInputs) -> float:
        return 0.0 if inputs.targets is None else float(sum(inputs.targets.sizes))

    def loss(self, outputs: DetectionOutputs, inputs: DetectionInputs, *, count: float) -> dict[str, Tensor]:
        """Raises DecoderError where the inputs were prepared without targets."""
        targets, noise = inputs.targets, inputs.noise
        if targets is None or noise is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before loss")
        stages = self._stages(outputs, targets, count)
        matched = Matched.of(stages, targets.sizes, outputs.class_mask.device)
        with torch.autocast(inputs.pixels.device.type, enabled=False):
            terms = class_and_box_terms(
                stages, matched, targets, outputs.class_mask, alpha=self.config.focal_alpha
            )
            if self.config.weights.dense:
                terms |= dense_terms(
                    outputs.detection.proposals,
                    outputs.detection.pyramid.shapes,
                    targets,
                    outputs.class_mask,
                    alpha=self.config.focal_alpha,
                    count=count,
                )
            features = outputs.mask_features
            if features is not None and any(masks is not None for masks in targets.masks):
                if not self.config.encoder_masks:
                    stages = [stage for stage in stages if stage.suffix != "_enc"]
                    matched = Matched.of(stages, targets.sizes, outputs.class_mask.device)
                embeddings = self._mask_embeddings(outputs, stages, matched)
                terms |= mask_loss_terms(
                    stages, matched, embeddings, features.float(), targets, self.config, noise
                )
        if not self.config.empty_batches and not sum(targets.sizes):
            terms = {}
        nothing = outputs.layers.boxes.sum() * 0
        return {name: terms.get(name, nothing) for name in self.weights}

    def cells_loss(self, links: LinkBatch, inputs: DetectionInputs, *, count: float) -> Tensor:
        """Class loss of the backbone's cells alone.

        Raises:
            DecoderError: the inputs were prepared without targets.
        """
        targets = inputs.targets
        if targets is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before cells_loss")
        classes, alpha = self.project(links), self.config.focal_alpha
        return backbone_term(self.model, inputs, classes, links.mask, targets, alpha=alpha, count=count)

    def _stages(self, outputs: DetectionOutputs, targets: Targets, count: float) -> list[Stage]:
        """Last layer, the other layers, the proposals, then the same layers for denoising."""
        layers, proposals = outputs.layers, outputs.detection.proposals
        logits = torch.cat([layers.logits, proposals.logits[None]])
        boxes = torch.cat([layers.boxes, proposals.boxes[None]])
        pairs = match(
            logits,
            boxes,
            targets.labels,
            targets.boxes,
            costs=self.config.costs,
            alpha=self.config.focal_alpha,
        )
        last = len(layers.logits) - 1
        order = [last, *range(last), last + 1]
        suffixes = ["", *(f"_{layer}" for layer in range(last)), "_enc"]
        stages = [
            Stage(suffix=suffix, logits=logits[at], boxes=boxes[at], pairs=pairs[at], count=count)
            for suffix, at in zip(suffixes, order, strict=True)
        ]
        denoising, denoised = outputs.denoising, outputs.denoised
        if denoising is None or denoised is None:
            return stages
        said, hide = list(zip(denoised.logits, denoised.boxes, strict=True)), self.config.dn_hide_padding
        return stages + denoising_stages(denoising, said, targets.sizes, count=count, hide_padding=hide)

    def _mask_embeddings(
        self, outputs: DetectionOutputs, stages: Sequence[Stage], matched: Matched
    ) -> list[Tensor]:
        """Of the matched queries of each stage; those of the proposals come from the query table."""
        last = len(outputs.layers.states) - 1
        found = []
        for stage, (picture, query) in zip(stages, matched.split(), strict=True):
            if stage.suffix == "_enc":
                found.append(self.model.mask_embed(self.model.query_position_embeddings.weight[query]))
                continue
            layers = outputs.layers
            if stage.suffix.startswith("_dn"):
                assert outputs.denoised is not None
                layers = outputs.denoised
            number = stage.suffix.removeprefix("_dn").removeprefix("_")
            at = int(number) if number else last
            found.append(self.mask_embed(layers.states[at][picture, query]))
        return found

    @property
    def weights(self) -> Mapping[str, float]:
        config = self.config
        weights = class_and_box_weights(config)
        for suffix in stage_suffixes(config):
            if config.mask_dim and (config.encoder_masks or suffix != "_enc"):
                weights |= {
                    f"loss_mask{suffix}": config.weights.mask,
                    f"loss_dice{suffix}": config.weights.dice,
                }
        return weights

    @torch.no_grad()
    def postprocess(self, outputs: DetectionOutputs, inputs: DetectionInputs) -> list[Artifact]:
        """One artifact a call.

        Raises:
            DecoderError: values of a call came out not finite.
        """
        return in_order(inputs, (outputs, *outputs.more), self._answers)

    def _answers(self, outputs: DetectionOutputs, inputs: DetectionInputs) -> list[Artifact]:
        results: list[Artifact] = []
        logits = outputs.layers.logits[-1].cpu()
        boxes = outputs.layers.boxes[-1].cpu().double()
        whole = zip(inputs.calls, inputs.routes, inputs.letterboxes, strict=True)
        for row, (call, route, box) in enumerate(whole):
            own = logits[row, :, : len(call.links)]
            refuse_damaged(call, own, boxes[row])
            items = chosen_items(
                own.sigmoid().numpy(), boxes[row].numpy(), call, route, box.size, self.config
            )
            masks = None
            if route.returns is Masks:
                maps = self.mask_maps(outputs, row, items.queries)
                refuse_damaged(call, maps)
                masks = box.masks_to_picture(maps, stride=4)
                if self.config.mask_margin is not None:
                    masks = cut_at_boxes(masks, items.xyxy, self.config.mask_margin)
            results.append(answer(items, masks, call, box.size, self.config.name))
        return results

    def mask_maps(self, outputs: DetectionOutputs, row: int, queries: Sequence[int] | IntArray) -> Tensor:
        """(N, H/4, W/4) mask logits of some queries of one picture.

        Raises:
            DecoderError: the decoder has no mask branch.
        """
        if outputs.mask_features is None:
            raise DecoderError(f"{self.config.name} was built without masks (mask_dim 0)")
        index = torch.as_tensor(queries, device=outputs.mask_features.device)
        with torch.autocast(index.device.type, enabled=False):
            embeddings = self.mask_embed(outputs.layers.states[-1][row, index].float())
            return mask_logits(
                embeddings, torch.zeros_like(index), outputs.mask_features[row : row + 1].float()
            )
