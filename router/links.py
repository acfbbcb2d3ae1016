"""Super-links: the hidden states a router hands to a decoder.

A link is a view into the router's hidden states until `detached()` copies it.
Ship only detached links: pickling a view ships the whole sequence.

Axes: B replies or calls, K links of one call, L embeddings of one link, D router width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from superlink.router.errors import LinkError
from superlink.router.tokens import RoutingToken


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SuperLink:
    """One routing token's hidden states: after the router's final norm, last layer."""

    token: RoutingToken
    embeddings: Tensor  # (L, D)
    phrase: str  # the words it stands for, as the user would say them: "red circle"
    position: int  # index of the routing token in the reply's `token_ids`

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or self.embeddings.shape[0] != self.token.num_links:
            raise LinkError(
                f"routing token {self.token.text!r} needs {self.token.num_links} link embeddings, "
                f"got a tensor of shape {tuple(self.embeddings.shape)}; "
                f"was this checkpoint saved with a different vocabulary?"
            )

    def detached(self) -> SuperLink:
        """A copy without graph and without the rest of the sequence, on the CPU."""
        # clone(): a slice keeps the storage of the whole sequence, and pickle sends all of it.
        return replace(self, embeddings=self.embeddings.detach().cpu().clone())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """What the router wrote for one request."""

    text: str  # for people: no special tokens, phrases kept
    raw: str  # as generated, routing tokens and phrase tags included, placeholders left out
    links: tuple[SuperLink, ...]  # in reading order
    token_ids: tuple[int, ...]  # generated ids, without placeholders
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds
    prompt_length: int = 0  # positions of what was read before the first word was written


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkBatch:
    """Links of several calls, padded to the same number."""

    embeddings: Tensor  # (B, K, L, D); zeros where padded
    mask: Tensor  # (B, K) bool; True = a link

    @classmethod
    def of(cls, calls: Sequence[Sequence[SuperLink]]) -> LinkBatch:
        """Stack the links of each call; gradients flow through.

        Raises:
            LinkError: no call, a call without links, or links of different shapes.
        """
        if not calls or any(len(links) == 0 for links in calls):
            raise LinkError("every decoder call needs at least one link, got a call without any")
        shapes = {tuple(link.embeddings.shape) for links in calls for link in links}
        if len(shapes) != 1:
            raise LinkError(f"links of one batch must have one shape (L, D), got {sorted(shapes)}")
        (length, width) = next(iter(shapes))
        most = max(len(links) for links in calls)
        first = calls[0][0].embeddings
        if all(len(links) == most for links in calls):  # as of a lone call: nothing to pad
            stacked = torch.stack([link.embeddings for links in calls for link in links])
            full = torch.ones(len(calls), most, dtype=torch.bool, device=first.device)
            return cls(embeddings=stacked.view(len(calls), most, length, width), mask=full)
        rows = []
        mask = torch.zeros(len(calls), most, dtype=torch.bool, device=first.device)
        for row, links in enumerate(calls):
            stacked = torch.stack([link.embeddings for link in links])
            padding = stacked.new_zeros(most - len(links), length, width)
            rows.append(torch.cat([stacked, padding]))
            mask[row, : len(links)] = True
        return cls(embeddings=torch.stack(rows), mask=mask)
