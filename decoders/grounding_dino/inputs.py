"""Calls and labels as tensors in the decoder's frame.

Axes: B calls, n objects of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superlink.decoders.artifacts import Artifact, Boxes, Masks
from superlink.decoders.contract import Call, Route
from superlink.decoders.grounding_dino.boxes import to_cxcywh
from superlink.decoders.grounding_dino.losses import Targets
from superlink.decoders.grounding_dino.noise import Noise
from superlink.decoders.letterbox import Letterbox
from superlink.router.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionInputs:
    """A batch of calls in the decoder's frame."""

    calls: tuple[Call, ...]
    routes: tuple[Route, ...]  # of each call
    letterboxes: tuple[Letterbox, ...]
    pixels: Tensor  # (B, 3, H, W) normalised
    valid: Tensor  # (B, H, W) bool
    targets: Targets | None
    noise: Noise | None  # for denoising and mask points; with targets only

    @property
    def wants_masks(self) -> bool:
        if self.targets is not None and any(masks is not None for masks in self.targets.masks):
            return True
        return any(route.returns is Masks for route in self.routes)


def targets_in_frame(
    calls: Sequence[Call],
    targets: Sequence[Artifact],
    letterboxes: Sequence[Letterbox],
    frame: tuple[int, int],
    device: torch.device,
) -> Targets:
    """Labelled artifacts to tensors; masks, where there are any, are used for every route."""
    if len(targets) != len(calls):
        raise DataError(f"{len(calls)} calls but {len(targets)} targets")
    labels: list[Tensor] = []
    boxes: list[Tensor] = []
    masks: list[Tensor | None] = []
    for call, target, box in zip(calls, targets, letterboxes, strict=True):
        if not isinstance(target, (Boxes, Masks)):
            raise DataError(
                f"call {call.id!r} needs Boxes or Masks as its target, got {type(target).__name__}"
            )
        if len(target) and int(target.labels.max()) >= len(call.links):
            label = int(target.labels.max())
            raise DataError(f"call {call.id!r} has {len(call.links)} links, but a target is labelled {label}")
        if target.size != box.size:
            raise DataError(f"call {call.id!r}: picture of {box.size}, target for one of {target.size}")
        height, width = box.size
        xyxy = torch.as_tensor(target.xyxy, dtype=torch.float32)
        relative = to_cxcywh(xyxy / torch.tensor([width, height, width, height]))
        labels.append(torch.as_tensor(target.labels, dtype=torch.long, device=device))
        boxes.append(relative.to(device))
        if isinstance(target, Masks):
            padded = torch.zeros(len(target), *frame, dtype=torch.bool)
            padded[:, : box.inner[0], : box.inner[1]] = torch.from_numpy(box.masks_to_frame(target.masks))
            masks.append(padded.to(device))
        else:
            masks.append(None)
    return Targets(labels=tuple(labels), boxes=tuple(boxes), masks=tuple(masks))
