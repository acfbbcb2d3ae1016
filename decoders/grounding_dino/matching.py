"""One-to-one matching of queries and objects (Carion et al. 2020, DETR, equation 1).

Axes: T stages, B pictures, Q queries, K classes, M objects of all pictures, n of one picture.
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
    extra: Tensor | None = None,
) -> list[list[Pairs]]:
    """Pairs of least cost for every stage and picture.

    Args:
        logits: (T, B, Q, K).
        boxes: (T, B, Q, 4) cxcywh.
        labels: for each picture (n,).
        targets: for each picture (n, 4) cxcywh.
        extra: (T, B, Q, M) what else a pair costs.

    Returns:
        For each stage, for each picture: query and object indices, by rising query index.
    """
    sizes = [len(one) for one in labels]
    label = torch.cat(list(labels))
    target = torch.cat(list(targets))
    by_class = class_cost(logits.float(), alpha=alpha)[..., label]
    distance = torch.cdist(boxes.float().flatten(0, 2), target, p=1).unflatten(0, boxes.shape[:3])
    overlap = giou(to_xyxy(boxes.float())[..., None, :], to_xyxy(target))
    cost = costs.bbox * distance + costs.ce * by_class - costs.giou * overlap
    if extra is not None:
        cost = cost + extra
    pairs: list[list[Pairs]] = []
    for stage in cost.cpu():
        row = []
        for picture, own in enumerate(stage.split(sizes, -1)):
            query, index = linear_sum_assignment(own[picture].numpy())
            row.append((torch.as_tensor(query), torch.as_tensor(index)))
        pairs.append(row)
    return pairs
