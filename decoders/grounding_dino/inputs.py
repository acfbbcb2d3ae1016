"""Calls and labels as tensors in the decoder's frame.

Axes: B calls, n objects of one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superlink.decoders.artifacts import Artifact, Boxes, Masks
from superlink.decoders.contract import Call, Route
from superlink.decoders.grounding_dino.boxes import to_cxcywh
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.losses import Targets
from superlink.decoders.grounding_dino.noise import Noise
from superlink.decoders.labels import check_labels
from superlink.decoders.letterbox import Letterbox, Size, common_frame, round_up, stack_pictures
from superlink.router.errors import DataError
from superlink.router.links import LinkBatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramedCalls:
    """A batch of calls in the decoder's frame."""

    calls: tuple[Call, ...]
    routes: tuple[Route, ...]  # of each call
    letterboxes: tuple[Letterbox, ...]
    pixels: Tensor  # (B, 3, H, W) normalised
    valid: Tensor  # (B, H, W) bool
    noise: Noise | None  # for denoising and mask points; with targets only
    # One pass for each frame that a call has by itself: in a larger one it would find other things, since
    # strided convolutions and windows look at padding.
    apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectionInputs(FramedCalls):
    targets: Targets | None

    @property
    def wants_masks(self) -> bool:
        if self.targets is not None and any(masks is not None for masks in self.targets.masks):
            return True
        return any(route.returns is Masks for route in self.routes)


Framed = TypeVar("Framed", bound=FramedCalls)
Out = TypeVar("Out")


def by_frame(inputs: Framed) -> list[tuple[list[int], Framed]]:
    """Calls that share a pass: their rows, and their part of the batch in a frame no larger than theirs."""
    if not inputs.apart:
        return [(list(range(len(inputs.pixels))), inputs)]
    groups: dict[Size, list[int]] = {}
    for row, box in enumerate(inputs.letterboxes):
        groups.setdefault(box.frame(), []).append(row)
    return [(rows, _part(inputs, rows, frame)) for frame, rows in groups.items()]


def in_order(
    inputs: Framed, outputs: Sequence[Out], answers: Callable[[Out, Framed], list[Artifact]]
) -> list[Artifact]:
    """The answers to all calls in their order.

    Args:
        outputs: of each part that `by_frame` makes of the batch.
        answers: to the calls of one part.
    """
    found: dict[int, Artifact] = {}
    for (rows, part), one in zip(by_frame(inputs), outputs, strict=True):
        found |= zip(rows, answers(one, part), strict=True)
    return [found[row] for row in range(len(found))]


def _part(inputs: Framed, rows: Sequence[int], frame: Size) -> Framed:
    height, width = frame
    pixels = inputs.pixels[list(rows), :, :height, :width]
    return replace(
        inputs,
        calls=tuple(inputs.calls[row] for row in rows),
        routes=tuple(inputs.routes[row] for row in rows),
        letterboxes=tuple(inputs.letterboxes[row] for row in rows),
        pixels=pixels.contiguous(memory_format=torch.channels_last),
        valid=inputs.valid[list(rows), :height, :width],
        apart=False,
    )


def links_of(links: LinkBatch, rows: Sequence[int]) -> LinkBatch:
    """The links of some calls, padded to the most that one of them has."""
    index = torch.tensor(list(rows), device=links.mask.device)
    mask = links.mask[index]
    most = int(mask.sum(1).max())
    return LinkBatch(embeddings=links.embeddings[index, :most], mask=mask[:, :most])


def pictures_in_frame(
    pictures: Sequence[NDArray[np.uint8]], config: GroundingDinoConfig, side: int | None, device: torch.device
) -> tuple[tuple[Letterbox, ...], Tensor, Tensor]:
    """Where pictures (H, W, 3) lie in one frame, with `pixels` and `valid` of it.

    Without `square` that frame is the smallest that holds them all, as published: training sees each picture
    with the padding that its batch gives it, masked. Serving goes `by_frame`.

    `side` is the longest of the frame; None = the config's.
    """
    longest = side or config.longest
    shortest = min(config.shortest, longest)
    boxes = tuple(Letterbox.fit(one.shape[:2], shortest=shortest, longest=longest) for one in pictures)
    square = round_up(longest, 32)
    frame = (square, square) if config.square else common_frame(boxes)
    pixels, valid = stack_pictures(pictures, boxes, frame=frame, mean=config.mean, std=config.std)
    return boxes, pixels.to(device).contiguous(memory_format=torch.channels_last), valid.to(device)


def targets_in_frame(
    calls: Sequence[Call],
    targets: Sequence[Artifact],
    letterboxes: Sequence[Letterbox],
    frame: Size,
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
        check_labels(call, target)
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
