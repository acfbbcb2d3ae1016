"""From predictions to results in the picture's own pixels.

The first half is how published numbers are computed (VisionLLM v2, section 4); the second
is what serving adds: thresholds, references to earlier items, merging of doubles.

Axes: Q queries, K classes, N items.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from superlink.decoders.artifacts import BoolArray, FloatArray, IntArray
from superlink.decoders.grounding_dino.boxes import to_xyxy
from superlink.decoders.letterbox import Letterbox, Size


def top_pairs(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (query, class) pairs of (Q, K) logits: scores, labels and queries, each (N,)."""
    prob = logits.sigmoid()
    scores, index = prob.flatten().topk(min(count, prob.numel()))
    return scores, index % prob.shape[1], index // prob.shape[1]


def picture_boxes(boxes: Tensor, size: Size) -> Tensor:
    """(N, 4) cxcywh of the picture to xyxy in its pixels; not clipped."""
    height, width = size
    return to_xyxy(boxes) * torch.tensor([width, height, width, height], device=boxes.device)


def instance_masks(logits: Tensor, letterbox: Letterbox, *, stride: int = 4) -> BoolArray:
    """(N, h, w) mask logits at `stride` to (N, H, W) masks of the picture."""
    return letterbox.masks_to_picture(logits, stride=stride)


def semantic_map(
    logits: Tensor, masks: Tensor, letterbox: Letterbox, *, stride: int = 4, resize_last: bool = False
) -> Tensor:
    """(H, W) class of every pixel: sum over queries of class probability times mask probability.

    Args:
        logits: (Q, K).
        masks: (Q, h, w) mask logits.
        resize_last: mix classes on the frame, before going to the picture's size (for large pictures).
    """
    prob = logits.sigmoid()
    if not resize_last:
        full = letterbox.resize_to_picture(masks, stride=stride).sigmoid()
        return torch.einsum("qk,qhw->khw", prob, full).argmax(0)
    frame = (masks.shape[-2] * stride, masks.shape[-1] * stride)
    inner = F.interpolate(masks[:, None], size=frame, mode="bilinear", align_corners=False)[:, 0]
    inner = inner[:, : letterbox.inner[0], : letterbox.inner[1]]
    mixed = torch.einsum("qk,qhw->khw", prob, inner.sigmoid())
    return F.interpolate(mixed[None], size=letterbox.size, mode="bilinear", align_corners=False)[0].argmax(0)


def iou_matrix(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """IoU of every pair of xyxy boxes, (N, M)."""
    boxes, others = np.asarray(boxes, dtype=np.float64), np.asarray(others, dtype=np.float64)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = (high - low).clip(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    other_area = (others[:, 2:] - others[:, :2]).prod(-1)
    union = area[:, None] + other_area[None] - inter
    return np.asarray(inter / np.maximum(union, 1e-12))


def overlapping(boxes: FloatArray, referred: FloatArray, *, least: float = 0.5) -> BoolArray:
    """Which boxes overlap a referred item by an IoU of at least `least`; (N,)."""
    if len(referred) == 0 or len(boxes) == 0:
        return np.zeros(len(boxes), dtype=np.bool_)
    return np.asarray(iou_matrix(boxes, referred).max(1) >= least)


def merge_doubles(
    boxes: FloatArray, labels: IntArray, most: float, *, top: int | None = None, count: int | None = None
) -> IntArray:
    """Indices to keep, best first: boxes that no better one of their class overlaps by more than `most`.

    Args:
        top: how many of a class are wanted; None: all.
        count: how many are wanted altogether. A low threshold lets every pair of query and class through, and
            nobody asks for what stands behind the first hundred.
    """
    own = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    free = np.ones(len(boxes), dtype=np.bool_)
    taken = dict.fromkeys(own, 0)
    kept: list[int] = []
    for index, label in enumerate(labels.tolist()):
        if len(kept) == count:
            break
        if not free[index] or taken[label] == top:
            continue
        kept.append(index)
        taken[label] += 1
        behind = own[label][own[label] > index]
        free[behind] &= iou_matrix(boxes[behind], boxes[index : index + 1])[:, 0] <= most
    return np.array(kept, dtype=np.int64)


def keep_top(labels: IntArray, top: int) -> IntArray:
    """Indices of the first `top` items of each label."""
    seen: dict[int, int] = {}
    kept = []
    for index, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= top:
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def cut_at_boxes(masks: BoolArray, boxes: FloatArray, margin: float) -> BoolArray:
    """(N, H, W) masks without what lies outside their xyxy box, grown by `margin` of its size on every side.

    A mask is compared with every cell of the picture, so a few far away may light up.
    """
    cut = np.zeros_like(masks)
    height, width = masks.shape[1:]
    for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        across, down = (x1 - x0) * margin, (y1 - y0) * margin
        left, right = max(0, math.floor(x0 - across)), min(width, math.ceil(x1 + across))
        top, bottom = max(0, math.floor(y0 - down)), min(height, math.ceil(y1 + down))
        cut[row, top:bottom, left:right] = masks[row, top:bottom, left:right]
    return cut


def tight_boxes(masks: BoolArray) -> FloatArray:
    """(N, H, W) masks to (N, 4) xyxy around each; zeros for an empty one."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for row, mask in enumerate(masks):
        lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(lines):
            boxes[row] = (columns[0], lines[0], columns[-1] + 1, lines[-1] + 1)
    return boxes
