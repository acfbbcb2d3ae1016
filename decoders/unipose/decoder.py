"""The decoder: links and pictures in, boxes with keypoints out; the contract around the network.

Axes: B calls, K classes and P keypoint slots of a call, L embeddings of a link, D link width, G
instances, d width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from superlink.decoders.artifacts import Artifact, FloatArray, Keypoints, Origin
from superlink.decoders.contract import Call, Decoder
from superlink.decoders.grounding_dino.denoising import Denoising, build_denoising
from superlink.decoders.grounding_dino.dense import backbone_term, dense_terms
from superlink.decoders.grounding_dino.inputs import by_frame, in_order, links_of, pictures_in_frame
from superlink.decoders.grounding_dino.losses import (
    Matched,
    Stage,
    class_and_box_terms,
    class_and_box_weights,
    denoising_stages,
)
from superlink.decoders.grounding_dino.matching import match
from superlink.decoders.grounding_dino.model import project_links
from superlink.decoders.grounding_dino.noise import SeededNoise
from superlink.decoders.grounding_dino.serving import chosen_items, refuse_damaged
from superlink.decoders.letterbox import Size
from superlink.decoders.unipose.config import UniPoseConfig
from superlink.decoders.unipose.inputs import PoseInputs, split_links, targets_in_frame
from superlink.decoders.unipose.losses import PoseTargets, keypoint_cost, keypoint_terms
from superlink.decoders.unipose.model import EPS, PoseDetector, Poses
from superlink.router.errors import DecoderError
from superlink.router.links import LinkBatch

VISIBLE = 2.0  # the network does not tell hidden keypoints from visible ones


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseOutputs:
    poses: Poses
    class_mask: Tensor  # (B, K) bool
    denoising: Denoising | None
    more: tuple[PoseOutputs, ...] = ()  # of further frames of a batch that is served, see `by_frame`


class UniPoseDecoder(Decoder[PoseInputs, PoseOutputs]):
    """Boxes and keypoints of everything that the object links of a call stand for."""

    half_weights = False

    def __init__(self, config: UniPoseConfig, link_dim: int) -> None:
        super().__init__()
        width = config.detector.d_model
        self.config: UniPoseConfig = config
        self.link_dim = link_dim
        self.image_side: int | None = None  # longest side of the frame; None = the config's
        self.patch2query = GroundingDinoMLPPredictionHead(link_dim, width, width, 3)
        self.patch2keypoint = GroundingDinoMLPPredictionHead(link_dim, width, width, 3)
        self.model = PoseDetector(config)

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> PoseInputs:
        """Raises InputError for a call that cannot be answered, DataError for labels that do not fit."""
        config, device = self.config, self.device
        pictures = config.pictures(calls)
        for call in calls:
            config.check(call)
        boxes, pixels, valid = pictures_in_frame(pictures, config.detector, self.image_side, device)
        slots = config.max_keypoints if self.all_slots else max(len(call.parts) for call in calls)
        known: PoseTargets | None = None
        if targets is not None:
            known = targets_in_frame(calls, targets, boxes, slots, config, device)
        return PoseInputs(
            calls=tuple(calls),
            routes=tuple(config.route(call) for call in calls),
            letterboxes=boxes,
            pixels=pixels,
            valid=valid,
            slots=slots,
            targets=known,
            noise=None if known is None else SeededNoise.of(calls),
            apart=known is None and not config.detector.square,
        )

    @property
    def all_slots(self) -> bool:
        """Whether slots that no call of a batch uses are computed: published masks let others see them."""
        return self.config.legacy_group_mask or not self.config.detector.dn_hide_padding

    def forward(self, links: LinkBatch, inputs: PoseInputs) -> PoseOutputs:
        """(B, links, L, D), those of objects before those of keypoints, to what every decoder layer says.

        Boxes and keypoints are shares of each picture's own sides.

        Raises:
            LinkError: links of another width than the decoder was built for.
        """
        parts = by_frame(inputs)
        found = []
        for rows, part in parts:
            own = links if len(parts) == 1 else links_of(links, rows)
            found.append(self.detect(*split_links(own, part.calls, part.slots), part))
        return replace(found[0], more=tuple(found[1:]))

    def detect(self, objects: LinkBatch, keypoints: LinkBatch, inputs: PoseInputs) -> PoseOutputs:
        """(B, K, L, D) object links and (B, P, L, D) keypoint links to what every layer says."""
        classes = project_links(self.patch2query, self.embeddings_of(objects))
        points = project_links(self.patch2keypoint, self.embeddings_of(keypoints))
        points = points.masked_fill(~keypoints.mask[..., None], 0.0)
        denoising = None
        if self.training and inputs.targets is not None and inputs.noise is not None:
            denoising = build_denoising(
                inputs.targets.objects.labels,
                inputs.targets.objects.boxes,
                classes,
                objects.mask.sum(1),
                self.config.detector,
                inputs.noise,
                eps=EPS,
            )
        poses: Poses = self.model(
            inputs.pixels, inputs.valid, classes, objects.mask, points, keypoints.mask, denoising
        )
        return PoseOutputs(poses=poses, class_mask=objects.mask, denoising=denoising)

    def count(self, inputs: PoseInputs) -> float:
        return 0.0 if inputs.targets is None else float(sum(inputs.targets.objects.sizes))

    def loss(self, outputs: PoseOutputs, inputs: PoseInputs, *, count: float) -> dict[str, Tensor]:
        """Raises DecoderError where the inputs were prepared without targets."""
        targets = inputs.targets
        if targets is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before loss")
        stages = self.stages(outputs, targets, count)
        matched = Matched.of(stages, targets.objects.sizes, outputs.class_mask.device)
        with torch.autocast(inputs.pixels.device.type, enabled=False):
            terms = class_and_box_terms(
                stages,
                matched,
                targets.objects,
                outputs.class_mask,
                alpha=self.config.detector.focal_alpha,
            )
            terms |= self._keypoint_terms(outputs, stages, matched, targets, count)
            if self.config.detector.weights.dense:
                terms |= dense_terms(
                    outputs.poses.proposals,
                    outputs.poses.pyramid.shapes,
                    targets.objects,
                    outputs.class_mask,
                    alpha=self.config.detector.focal_alpha,
                    count=count,
                )
        if not self.config.detector.empty_batches and not sum(targets.objects.sizes):
            terms = {}
        nothing = outputs.poses.layers[-1].boxes.sum() * 0
        return {name: terms.get(name, nothing) for name in self.weights}

    def cells_loss(self, links: LinkBatch, inputs: PoseInputs, *, count: float) -> Tensor:
        """Class loss of the backbone's cells alone, as in the detector.

        Raises:
            DecoderError: the inputs were prepared without targets.
        """
        targets = inputs.targets
        if targets is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before cells_loss")
        objects, _ = split_links(links, inputs.calls, inputs.slots)
        classes = project_links(self.patch2query, self.embeddings_of(objects))
        base, alpha = self.model.base, self.config.detector.focal_alpha
        return backbone_term(base, inputs, classes, objects.mask, targets.objects, alpha=alpha, count=count)

    def stages(self, outputs: PoseOutputs, targets: PoseTargets, count: float) -> list[Stage]:
        """Last layer, the other layers, the proposals, then the same layers for denoising."""
        layers, proposals = outputs.poses.layers, outputs.poses.proposals
        split, last = self.config.box_layers, len(layers) - 1
        detector, objects = self.config.detector, targets.objects
        # Box layers and proposals have as many queries; pose layers have one for each instance.
        early = [(one.logits, one.boxes) for one in layers[:split]] + [(proposals.logits, proposals.boxes)]
        late = [(one.logits, one.boxes) for one in layers[split:]]
        posed = torch.stack([one.keypoints for one in layers[split:] if one.keypoints is not None])
        extra = [
            keypoint_cost(posed[:, row], targets.of(row), self.config.costs) for row in range(posed.shape[1])
        ]
        pairs = []
        for group, more in ((early, None), (late, extra)):
            pairs += match(
                torch.stack([logits for logits, _ in group]),
                torch.stack([boxes for _, boxes in group]),
                objects.labels,
                objects.boxes,
                costs=detector.costs,
                alpha=detector.focal_alpha,
                extra=more,
            )
        found = [*early, *late]
        # Proposals stand behind the box layers, so later layers are one further.
        order = [(f"_{at}", at if at < split else at + 1) for at in range(last)]
        order = [("", last + 1), *order, ("_enc", split)]
        stages = [
            Stage(suffix=suffix, logits=found[at][0], boxes=found[at][1], pairs=pairs[at], count=count)
            for suffix, at in order
        ]
        denoising = outputs.denoising
        if denoising is None:
            return stages
        said, hide = [(one.logits, one.boxes) for one in outputs.poses.denoised], detector.dn_hide_padding
        return stages + denoising_stages(denoising, said, objects.sizes, count=count, hide_padding=hide)

    def _keypoint_terms(
        self,
        outputs: PoseOutputs,
        stages: Sequence[Stage],
        matched: Matched,
        targets: PoseTargets,
        count: float,
    ) -> dict[str, Tensor]:
        layers, table = outputs.poses.layers, targets.table()
        suffixes, found, labels = [], [], []
        rows = zip(stages, matched.split(), matched.target.split(matched.sizes), strict=True)
        for stage, (picture, query), target in rows:
            if stage.suffix.startswith(("_dn", "_enc")):
                continue
            number = stage.suffix.removeprefix("_")
            keypoints = layers[int(number) if number else -1].keypoints
            if keypoints is not None:
                suffixes.append(stage.suffix)
                found.append(keypoints[picture, query])
                labels.append(table.take(target))
        return keypoint_terms(suffixes, found, labels, count=count)

    @property
    def weights(self) -> Mapping[str, float]:
        config = self.config
        weights = class_and_box_weights(config.detector)
        for layer in range(config.box_layers, config.detector.decoder_layers):
            suffix = "" if layer == config.detector.decoder_layers - 1 else f"_{layer}"
            weights |= {
                f"loss_keypoints{suffix}": config.weights.keypoints,
                f"loss_oks{suffix}": config.weights.oks,
            }
        return weights

    @torch.no_grad()
    def postprocess(self, outputs: PoseOutputs, inputs: PoseInputs) -> list[Artifact]:
        """One artifact a call.

        Raises:
            DecoderError: values of a call came out not finite.
        """
        return in_order(inputs, (outputs, *outputs.more), self._answers)

    def _answers(self, outputs: PoseOutputs, inputs: PoseInputs) -> list[Artifact]:
        last = outputs.poses.layers[-1]
        assert last.keypoints is not None
        logits, boxes = last.logits.cpu(), last.boxes.cpu().double()
        results: list[Artifact] = []
        for row, (call, route, box) in enumerate(
            zip(inputs.calls, inputs.routes, inputs.letterboxes, strict=True)
        ):
            own = logits[row, :, : len(call.names)]
            found = last.keypoints[row, :, : len(call.parts)].cpu()
            refuse_damaged(call, own, boxes[row], found)
            items = chosen_items(
                own.sigmoid().numpy(), boxes[row].numpy(), call, route, box.size, self.config.detector
            )
            results.append(
                Keypoints(
                    xyv=picture_keypoints(found, box.size)[items.queries],
                    keypoint_names=call.parts,
                    xyxy=items.xyxy,
                    scores=items.scores,
                    labels=items.labels,
                    names=call.names,
                    size=box.size,
                    origin=Origin(source=call.image_id, decoder=self.config.name),
                )
            )
        return results


def picture_keypoints(keypoints: Tensor, size: Size) -> FloatArray:
    """(N, P, 2) x, y of the picture to (N, P, 3) in its pixels, all of them visible."""
    height, width = size
    found = np.full((*keypoints.shape[:-1], 3), VISIBLE, dtype=np.float32)
    found[..., :2] = keypoints.numpy() * np.array([width, height], dtype=np.float32)
    return found
