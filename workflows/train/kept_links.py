"""A loss that holds links where they were, while the router learns something else.

A decoder understands the links that it learned with. A router that learns new wordings alone moves its
links, and decoders that do not learn along find less with every step. Here each embedding of a link stays
near what a frozen copy of the router, as it was when the run began, makes of the same row: feature
distillation (Li & Hoiem 2016, Learning without Forgetting, do so with outputs). The copy is no part of the
module: neither optimiser nor checkpoint sees it, and a resumed run makes it again from what the run began
with. Its weight is 0 unless a run asks for it.

Axes: L queries of a link, D router width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from superlink.router.batch import RowLink

KEPT_LINKS = "kept_links"


def kept_links_loss(
    links: Sequence[Sequence[RowLink]], before: Sequence[Sequence[RowLink]]
) -> tuple[Tensor, int] | None:
    """How far each link has gone: squared distance over squared length, mean over queries; and their number.

    Args:
        links: of each row, with graph.
        before: of the same rows, as the router was; without graph.

    Returns:
        The sum over links, 0 where nothing moved; None where there is no link with embeddings.
    """
    gone: list[Tensor] = []
    for row, old_row in zip(links, before, strict=True):
        for link, old in zip(row, old_row, strict=True):
            if len(link.embeddings):
                was = old.embeddings.float()
                distance = (link.embeddings.float() - was).square().sum(-1)
                gone.append((distance / was.square().sum(-1).clamp(min=1e-12)).mean())
    return (torch.stack(gone).sum(), len(gone)) if gone else None
