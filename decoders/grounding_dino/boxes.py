"""Box arithmetic. Boxes are (..., 4); cxcywh boxes are relative to the picture."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-5  # of the inverse sigmoid


def to_xyxy(boxes: Tensor) -> Tensor:
    """cxcywh to xyxy."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def to_cxcywh(boxes: Tensor) -> Tensor:
    """xyxy to cxcywh."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def inverse_sigmoid(values: Tensor, eps: float = EPS) -> Tensor:
    """The logit of values in [0, 1], finite at both ends: a share below `eps` counts as `eps`."""
    values = values.clamp(0, 1)
    return (values.clamp(min=eps) / (1 - values).clamp(min=eps)).log()


def iou_and_hull(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, union and smallest enclosing area of xyxy boxes that broadcast against each other."""
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    other_area = (others[..., 2:] - others[..., :2]).prod(-1)
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    union = area + other_area - inter
    hull_low = torch.minimum(boxes[..., :2], others[..., :2])
    hull_high = torch.maximum(boxes[..., 2:], others[..., 2:])
    return inter / union.clamp(min=1e-12), union, (hull_high - hull_low).clamp(min=0).prod(-1)


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU of xyxy boxes that broadcast against each other; values in [-1, 1].

    Source: Rezatofighi et al. 2019, algorithm 1.
    """
    iou, union, hull = iou_and_hull(boxes, others)
    return iou - (hull - union) / hull.clamp(min=1e-12)
