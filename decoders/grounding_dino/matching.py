"""One-to-one matching of queries and objects (Carion et al. 2020, DETR, equation 1).

Axes: T stages, B pictures, Q queries, K classes, n objects of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from superlink.decoders.grounding_dino.boxes import giou, to_xyxy
from superlink.decoders.grounding_dino.config import MatchCosts

Pairs = tuple[Tensor, Tensor]  # query index, object index, each (n,)


def class_cost(logits: Tensor, *, alpha: float, gamma: float = 2.0) -> Tensor:
    """Focal loss of calling a query positive, less that of calling it negative, elementwise."""
    prob = logits.sigmoid()
    negative = (1 - alpha) * prob**gamma * -(1 - prob + 1e-8).log()
    positive = alpha * (1 - prob) ** gamma * -(prob + 1e-8).log()
    return positive - negative


@torch.no_grad()
def match(
    logits: Tensor,
    boxes: Tensor,
    labels: Sequence[Tensor],
    targets: Sequence[Tensor],
    *,
    costs: MatchCosts,
    alpha: float,
    extra: Sequence[Tensor] | None = None,
) -> list[list[Pairs]]:
    """Pairs of least cost for every stage and picture.

    Args:
        logits: (T, B, Q, K).
        boxes: (T, B, Q, 4) cxcywh.
        labels: for each picture (n,).
        targets: for each picture (n, 4) cxcywh.
        extra: for each picture (T, Q, n) what else a pair costs.

    Returns:
        For each stage, for each picture: query and object indices, by rising query index.
    """
    found = []
    # Picture by picture: queries against the objects of all pictures would grow with the batch's square.
    for picture, (label, target) in enumerate(zip(labels, targets, strict=True)):
        own = boxes[:, picture].float()
        by_class = class_cost(logits[:, picture].float(), alpha=alpha)[..., label]
        distance = torch.cdist(own.flatten(0, 1), target, p=1).unflatten(0, own.shape[:2])
        overlap = giou(to_xyxy(own)[..., None, :], to_xyxy(target))
        cost = costs.bbox * distance + costs.ce * by_class - costs.giou * overlap
        found.append(cost if extra is None else cost + extra[picture])
    pairs: list[list[Pairs]] = [[] for _ in logits]
    for whole in found:
        for row, stage in zip(pairs, whole.cpu(), strict=True):
            query, index = linear_sum_assignment(stage.numpy())
            row.append((torch.as_tensor(query), torch.as_tensor(index)))
    return pairs
