"""Calls, links and labels of keypoints as tensors in the decoder's frame.

Axes: B calls, L embeddings of a link, D link width, K classes and P keypoint slots of a call, n objects
of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from superlink.decoders.artifacts import Artifact, Keypoints
from superlink.decoders.contract import Call
from superlink.decoders.grounding_dino.boxes import to_cxcywh
from superlink.decoders.grounding_dino.inputs import FramedCalls
from superlink.decoders.grounding_dino.losses import Targets
from superlink.decoders.labels import check_labels
from superlink.decoders.letterbox import Letterbox
from superlink.decoders.unipose.config import UniPoseConfig
from superlink.decoders.unipose.losses import OTHER_SIGMA, PoseTargets, sigma_of
from superlink.router.errors import DataError
from superlink.router.links import LinkBatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseInputs(FramedCalls):
    slots: int  # P of the batch
    targets: PoseTargets | None


def split_links(links: LinkBatch, calls: Sequence[Call], slots: int) -> tuple[LinkBatch, LinkBatch]:
    """Links of a batch to those of objects (B, K) and those of keypoints (B, slots)."""
    objects = [len(call.names) for call in calls]
    ends = [len(call.links) for call in calls]
    return (
        _part(links, [0] * len(calls), objects, max(objects)),
        _part(links, objects, ends, slots),
    )


def _part(links: LinkBatch, starts: Sequence[int], stops: Sequence[int], width: int) -> LinkBatch:
    rows = []
    mask = torch.zeros(len(starts), width, dtype=torch.bool, device=links.mask.device)
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        own = links.embeddings[row, start:stop]
        rows.append(torch.cat([own, own.new_zeros(width - len(own), *own.shape[1:])]))
        mask[row, : stop - start] = True
    return LinkBatch(embeddings=torch.stack(rows), mask=mask)


def targets_in_frame(
    calls: Sequence[Call],
    targets: Sequence[Artifact],
    letterboxes: Sequence[Letterbox],
    slots: int,
    config: UniPoseConfig,
    device: torch.device,
) -> PoseTargets:
    """Labelled keypoints to tensors; a keypoint counts where its visibility is above zero."""
    if len(targets) != len(calls):
        raise DataError(f"{len(calls)} calls but {len(targets)} targets")
    labels, boxes, points, visible, areas, sigmas = [], [], [], [], [], []
    for call, target, box in zip(calls, targets, letterboxes, strict=True):
        _check_target(call, target, box)
        assert isinstance(target, Keypoints)
        height, width = box.size
        relative = to_cxcywh(
            torch.as_tensor(target.xyxy, dtype=torch.float32) / torch.tensor([width, height, width, height])
        )
        own = np.zeros((len(target), slots, 3), dtype=np.float32)
        own[:, : len(call.parts)] = target.xyv
        seen = torch.from_numpy((own[..., 2] > 0).astype(np.float32))
        places = torch.from_numpy(own[..., :2]) / torch.tensor([width, height])
        constants = [sigma_of(name) for name in call.parts]
        labels.append(torch.as_tensor(target.labels, dtype=torch.long, device=device))
        boxes.append(relative.to(device))
        # Not times `seen`: what is not labelled may have coordinates that are no numbers.
        points.append(torch.where(seen[..., None] > 0, places, 0.0).to(device))
        visible.append(seen.to(device))
        areas.append((config.area_share * relative[:, 2:].prod(-1)).to(device))
        sigmas.append(torch.tensor(constants + [OTHER_SIGMA] * (slots - len(constants)), device=device))
    objects = Targets(labels=tuple(labels), boxes=tuple(boxes), masks=(None,) * len(labels))
    return PoseTargets(
        objects=objects,
        points=tuple(points),
        visible=tuple(visible),
        areas=tuple(areas),
        sigmas=tuple(sigmas),
    )


def _check_target(call: Call, target: Artifact, box: Letterbox) -> None:
    if not isinstance(target, Keypoints):
        raise DataError(f"call {call.id!r} needs Keypoints as its target, got {type(target).__name__}")
    check_labels(call, target, what="objects")
    if target.keypoint_names != call.parts:
        raise DataError(
            f"call {call.id!r} asks for the keypoints {list(call.parts)}, "
            f"its target has {list(target.keypoint_names)}"
        )
    if target.size != box.size:
        raise DataError(f"call {call.id!r}: picture of {box.size}, target for one of {target.size}")
