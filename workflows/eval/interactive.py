"""Interactive segmentation: the overlap of masks with what a click, box, scribble or painted area meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from superlink.decoders.artifacts import Masks
from superlink.router.messages import Box, Mask, Point, Prompt
from superlink.workflows.eval.matching import mask_iou
from superlink.workflows.eval.report import Metric

PROMPT_KINDS = ("point", "box", "scribble", "mask")


def kind_of(prompt: Prompt) -> str:
    """ "point", "box", "scribble" or "mask"."""
    if isinstance(prompt, Point):
        return "point"
    return "box" if isinstance(prompt, Box) else "mask" if isinstance(prompt, Mask) else "scribble"


def interactive(kinds: Sequence[str], found: Sequence[Masks], truths: Sequence[Masks]) -> list[Metric]:
    """Mean IoU of all meant objects for every kind of prompt; an object without a mask has 0.

    Args:
        kinds: of the prompts of each question.
        found: what came; the best mask of each name counts.
        truths: one mask for every prompt, each under a name of its own.

    Raises:
        ValueError: not as many of each.
    """
    if not len(kinds) == len(found) == len(truths):
        raise ValueError(
            f"{len(kinds)} kinds of prompts, {len(found)} findings and {len(truths)} truths do not pair"
        )
    overlaps: dict[str, list[float]] = {}
    for kind, masks, truth in zip(kinds, found, truths, strict=True):
        overlaps.setdefault(kind, []).extend(_overlaps(masks, truth))
    order = (*PROMPT_KINDS, *sorted(set(overlaps) - set(PROMPT_KINDS)))
    return [
        Metric(
            group="interactive",
            name=f"mIoU, {kind}",
            value=sum(overlaps[kind]) / max(len(overlaps[kind]), 1),
            count=len(overlaps[kind]),
        )
        for kind in order
        if kind in overlaps
    ]


def _overlaps(found: Masks, truth: Masks) -> list[float]:
    overlaps = []
    for column, label in enumerate(truth.labels):
        rows = [row for row, name in enumerate(found.phrases) if name == truth.names[label]]
        best = max(rows, key=lambda row: float(np.asarray(found.scores)[row]), default=None)
        overlaps.append(0.0 if best is None else mask_iou(found, best, truth, column))
    return overlaps
