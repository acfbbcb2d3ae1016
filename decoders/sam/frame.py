"""Prompts and masks in the decoder's square frame.

Axes: N masks, S side of the frame, P points of one prompt, s side of the mask grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.decoders.artifacts import BoolArray, tight_boxes
from superlink.decoders.letterbox import Letterbox, Size
from superlink.decoders.sam.prompts import MaskPrompt
from superlink.router.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePrompt:
    """One mask that is asked for, in frame pixels."""

    call: int  # row of the batch
    label: int  # link of the call
    points: Tensor  # (P, 2) x, y
    inside: Tensor  # (P,) 1 on the thing, 0 beside it
    box: Tensor | None = None  # (4,) xyxy
    mask: Tensor | None = None  # (1, s, s) logits
    score: float = 1.0
    link_alone: bool = False

    @property
    def kind(self) -> tuple[int, bool, bool]:
        """What prompts must share to be decoded in one pass."""
        return len(self.points), self.box is not None, self.mask is not None


def sam_letterbox(size: Size, side: int) -> Letterbox:
    """The longer side scaled to `side`; halves are rounded up, as in the published code.

    Raises:
        InputError: an empty picture.
    """
    if min(size) < 1:
        raise InputError(f"a picture needs at least one pixel, got {size[0]} x {size[1]}")
    scale = side / max(size)
    height, width = (max(1, int(length * scale + 0.5)) for length in size)
    return Letterbox(size=size, inner=(height, width))


def to_frame(
    prompt: MaskPrompt, box: Letterbox, *, call: int, side: int, stride: int, logit: float
) -> FramePrompt:
    """A prompt in pixels of its picture to one in pixels of the frame.

    Args:
        box: where the picture lies in the frame.
        call: row of the batch that the prompt belongs to.
        side: of the frame, in pixels.
        stride: frame pixels along a cell of the mask grid; divides `side`.
        logit: of a cell that a painted mask covers; its negative elsewhere.
    """
    mask = None
    if prompt.mask is not None:
        whole = masks_to_frame(prompt.mask[None], box, side)
        mask = mask_prompt(whole[0], stride=stride, logit=logit)
    corners = None if prompt.box is None else torch.from_numpy(box.boxes_to_frame(prompt.box)).float()
    return FramePrompt(
        call=call,
        label=prompt.label,
        points=torch.from_numpy(box.points_to_frame(prompt.points)).float(),
        inside=torch.from_numpy(prompt.inside.astype(np.int64)),
        box=corners,
        mask=mask,
        score=prompt.score,
        link_alone=prompt.link_alone,
    )


def masks_to_frame(masks: BoolArray, box: Letterbox, side: int) -> Tensor:
    """(N, H, W) masks of the picture to (N, S, S) bool; what is there in the picture stays there."""
    inner = box.masks_to_frame(masks)
    height, width = box.inner
    for row in np.flatnonzero(masks.any((1, 2)) & ~inner.any((1, 2))):
        # Too thin to cover half of any frame pixel.
        x0, y0, x1, y1 = box.boxes_to_frame(tight_boxes(masks[row : row + 1])[0])
        inner[row, min(int((y0 + y1) / 2), height - 1), min(int((x0 + x1) / 2), width - 1)] = True
    whole = torch.zeros(len(masks), side, side, dtype=torch.bool)
    whole[:, :height, :width] = torch.from_numpy(np.ascontiguousarray(inner))
    return whole


def mask_prompt(mask: Tensor, *, stride: int, logit: float) -> Tensor:
    """(S, S) mask to (1, s, s) logits: `logit` in cells that it covers, `-logit` beside it."""
    share = F.avg_pool2d(mask[None].float(), stride)
    return (2 * share - 1) * logit
