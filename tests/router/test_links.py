"""Links of several calls as one batch."""

from __future__ import annotations

import pytest
import torch

from superlink.router.errors import LinkError
from superlink.router.links import LinkBatch, SuperLink
from superlink.router.tokens import RoutingToken

TOKEN = RoutingToken(text="[DET]", decoder="d", table="det")


def links(count: int, seed: int) -> tuple[SuperLink, ...]:
    numbers = torch.randn(count, 4, 6, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return tuple(SuperLink(token=TOKEN, embeddings=one, phrase="thing", position=0) for one in numbers)


@pytest.mark.parametrize("counts", [(1,), (3,), (2, 2), (1, 3), (2, 1, 3)])
def test_calls_stand_in_rows_and_what_is_missing_is_zero_and_masked(counts: tuple[int, ...]) -> None:
    calls = [links(count, seed) for seed, count in enumerate(counts)]
    batch = LinkBatch.of(calls)
    assert batch.embeddings.shape == (len(counts), max(counts), 4, 6)
    for row, call in enumerate(calls):
        assert batch.mask[row].tolist() == [True] * len(call) + [False] * (max(counts) - len(call))
        for place, link in enumerate(call):
            assert torch.equal(batch.embeddings[row, place], link.embeddings)
        assert not batch.embeddings[row, len(call) :].any()


@pytest.mark.parametrize("counts", [(2, 2), (1, 3)])
def test_gradients_flow_back_to_each_link(counts: tuple[int, ...]) -> None:
    leaves = [torch.randn(4, 6, requires_grad=True) for _ in range(sum(counts))]
    made = iter(SuperLink(token=TOKEN, embeddings=one, phrase="thing", position=0) for one in leaves)
    batch = LinkBatch.of([tuple(next(made) for _ in range(count)) for count in counts])
    weights = torch.randn_like(batch.embeddings)
    (batch.embeddings * weights).sum().backward()
    for leaf, expected in zip(leaves, weights[batch.mask], strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, expected)


def test_a_call_without_links_and_links_of_two_shapes_are_refused() -> None:
    with pytest.raises(LinkError, match="without any"):
        LinkBatch.of([links(1, 0), ()])
    wide = SuperLink(token=TOKEN, embeddings=torch.zeros(4, 7), phrase="thing", position=0)
    with pytest.raises(LinkError, match="one shape"):
        LinkBatch.of([links(1, 0), (wide,)])
