"""Which masks become items of an answer.

Axes: N masks of one call, s side of the mask grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from superlink.decoders.artifacts import IntArray, Masks, Origin, tight_boxes
from superlink.decoders.contract import Call, Route
from superlink.decoders.letterbox import Letterbox
from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.frame import FramePrompt
from superlink.router.errors import DecoderError


def answer(
    logits: Tensor,
    fits: Tensor,
    prompts: Sequence[FramePrompt],
    call: Call,
    route: Route,
    box: Letterbox,
    config: SamConfig,
) -> Masks:
    """The masks of one call, best score first; empty ones are left out.

    The score is the predicted IoU times that of the prompt (a detected box; Huang et al. 2019,
    Mask Scoring R-CNN, does the same with classes). Where a link alone asked, it also says
    whether the thing is there: what scores less than the threshold is left out. What a box, a
    click or a mask asked for is there, unless the call sets a threshold of its own.

    Args:
        logits: (N, s, s) of each prompt.
        fits: (N,) predicted IoU.

    Raises:
        DecoderError: values came out not finite; they would be served as "nothing found".
    """
    if not bool(torch.isfinite(logits).all() and torch.isfinite(fits).all()):
        raise DecoderError(f"call {call.id!r}: masks or scores came out with values that are not finite")
    given = np.array([one.score for one in prompts], dtype=np.float32)
    scores = (fits.float().cpu().numpy().clip(0, 1) * given).astype(np.float32)
    # Where only the best is wanted an answer is expected.
    default = config.threshold if route.top is None else 0.0
    least = np.array([default if one.link_alone else 0.0 for one in prompts])
    if call.threshold is not None:
        least[:] = call.threshold
    order = np.argsort(-scores, kind="stable")
    order = order[(scores >= least)[order]]
    masks = box.masks_to_picture(logits[order.tolist()], stride=config.mask_stride)
    filled = masks.any((1, 2))
    order, masks = order[filled], masks[filled]
    labels = np.array([prompts[row].label for row in order], dtype=np.int64)
    kept = _best(labels, route.top)
    order, masks, labels = order[kept], masks[kept], labels[kept]
    return Masks(
        masks=masks,
        xyxy=tight_boxes(masks),
        scores=scores[order],
        labels=labels,
        names=call.names,
        size=box.size,
        origin=Origin(source=call.image_id, decoder=config.name),
    )


def _best(labels: IntArray, top: int | None) -> list[int]:
    """Rows of the first `top` items of each label."""
    rows = range(len(labels))
    if top is None:
        return list(rows)
    return [row for row in rows if (labels[:row] == labels[row]).sum() < top]
