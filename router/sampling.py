"""The next id of every row: the likeliest, or drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def choose(
    logits: Tensor, *, temperatures: Sequence[float], top_ps: Sequence[float], draws: Sequence[float]
) -> list[int]:
    """One id a row; a row's choice depends on that row alone.

    Args:
        logits: (B, V), -inf where banned.
        temperatures: for each row; 0 takes the likeliest id.
        top_ps: for each row: draw among the likeliest ids that reach this probability together.
        draws: for each row a uniform number in [0, 1), used where the temperature is not 0.

    Source: nucleus sampling, Holtzman et al. 2020.
    """
    likeliest = logits.argmax(dim=-1)
    if not any(temperatures):
        return [int(index) for index in likeliest.tolist()]
    numbers = torch.tensor([temperatures, top_ps, draws], dtype=torch.float64, device=logits.device)
    heat, top_p, draw = numbers[..., None].unbind()  # (B, 1) each
    scaled = logits.double() / heat.clamp(min=1e-6)
    probabilities, order = scaled.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = probabilities * (before < top_p)  # the first always stays
    reached = kept.cumsum(dim=-1)
    place = (reached <= draw * reached[:, -1:]).sum(dim=-1, keepdim=True)
    last = (kept > 0).sum(dim=-1, keepdim=True) - 1  # rounding must not lead past the kept ones
    drawn = order.gather(-1, torch.minimum(place, last))
    return [int(index) for index in torch.where(heat > 0, drawn, likeliest[:, None])[:, 0].tolist()]
