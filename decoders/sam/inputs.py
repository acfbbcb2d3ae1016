"""Calls and labels as tensors in the decoder's frame.

Axes: B calls, U different pictures, N prompts of all calls, S side of the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from superlink.decoders.artifacts import Artifact, Masks
from superlink.decoders.contract import Call, Route
from superlink.decoders.labels import check_labels
from superlink.decoders.letterbox import Letterbox
from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.drawing import draw_prompts
from superlink.decoders.sam.frame import FramePrompt, masks_to_frame
from superlink.router.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What the prompts of a batch should give."""

    masks: Tensor  # (N, S, S) bool
    valid: Tensor  # (N, S, S) bool, True on the picture

    @property
    def objects(self) -> int:
        """Prompts that ask for something that is there."""
        return int(self.masks.flatten(1).any(1).sum()) if len(self.masks) else 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamInputs:
    """A batch of calls in the decoder's frame; calls on one picture share it."""

    calls: tuple[Call, ...]
    routes: tuple[Route, ...]  # of each call
    letterboxes: tuple[Letterbox, ...]  # of each call
    pixels: Tensor  # (U, 3, S, S) normalised
    picture_ids: tuple[str, ...]  # content hash of each picture; "" where none was given
    picture: tuple[int, ...]  # row of `pixels` of each call
    prompts: tuple[FramePrompt, ...]  # call by call
    targets: Targets | None


def distinct_pictures(calls: Sequence[Call]) -> tuple[list[int], tuple[int, ...]]:
    """The calls that show a picture first, and for each call its place among them."""
    places: dict[object, int] = {}
    first: list[int] = []
    picture = []
    for row, call in enumerate(calls):
        key = call.image_id or id(call.image)
        if key not in places:
            places[key] = len(first)
            first.append(row)
        picture.append(places[key])
    return first, tuple(picture)


def training_prompts(
    calls: Sequence[Call],
    targets: Sequence[Artifact],
    letterboxes: Sequence[Letterbox],
    config: SamConfig,
    device: torch.device,
) -> tuple[tuple[FramePrompt, ...], Targets]:
    """Prompts drawn from labelled masks; those of a call depend on its seed alone.

    Raises:
        DataError: a target that is no mask, of another picture's size, or labelled beyond the links.
    """
    if len(targets) != len(calls):
        raise DataError(f"{len(calls)} calls but {len(targets)} targets")
    side = config.image_size
    prompts: list[FramePrompt] = []
    goals: list[Tensor] = []
    valid: list[Tensor] = []
    for row, (call, target, box) in enumerate(zip(calls, targets, letterboxes, strict=True)):
        masks = _checked_masks(call, target, box)
        # Seed 0 means "not given": PyTorch's own generator decides, so that a resumed run repeats itself.
        seed = call.seed or int(torch.randint(2**62, ()))
        drawn, wanted = draw_prompts(
            masks_to_frame(masks.masks, box, side),
            masks.labels.tolist(),
            call=row,
            links=len(call.links),
            inner=box.inner,
            config=config,
            rng=np.random.default_rng(seed % 2**64),  # numpy takes no negative seeds; torch counts them so
        )
        prompts += drawn
        goals += wanted
        shown = torch.zeros(side, side, dtype=torch.bool)
        shown[: box.inner[0], : box.inner[1]] = True
        valid += [shown] * len(drawn)
    nothing = torch.zeros(0, side, side, dtype=torch.bool)
    return tuple(prompts), Targets(
        masks=(torch.stack(goals) if goals else nothing).to(device),
        valid=(torch.stack(valid) if valid else nothing).to(device),
    )


def _checked_masks(call: Call, target: Artifact, box: Letterbox) -> Masks:
    if not isinstance(target, Masks):
        raise DataError(f"call {call.id!r} needs Masks as its target, got {type(target).__name__}")
    check_labels(call, target)
    if target.size != box.size or target.masks.shape[1:] != box.size:
        raise DataError(
            f"call {call.id!r}: picture of {box.size}, target for one of {target.size} "
            f"with masks of {target.masks.shape[1:]}"
        )
    return target
