"""Placeholder groups are written and found for every row and token on its own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.router.config import RouterConfig, TokenIds
from superlink.router.errors import LinkError
from superlink.router.groups import collapse, expand, find_groups
from superlink.router.tokens import RoutingToken

WORDS = 20
IDS = TokenIds.following(WORDS)
EMB = IDS.placeholders
CONFIG = RouterConfig(
    vision={"hidden_size": 16, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    llm={"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 60},
    tokens=(
        RoutingToken(text="[DET]", decoder="boxes", table="det", num_links=4),
        RoutingToken(text="[POSE]", decoder="pose", table="pose", num_links=2),
        RoutingToken(text="[GEN]", decoder="pictures", table="gen", num_links=10),
        RoutingToken(text="[GRD]", decoder="lisa", table="", num_links=1, kind="token"),
    ),
    token_ids=IDS,
)
DET, POSE, GEN, GRD = (IDS[token.text] for token in CONFIG.tokens)
written = st.lists(st.integers(0, WORDS - 1) | st.sampled_from([DET, POSE, GEN, GRD]), max_size=12)


@given(written)
def test_expanding_and_collapsing_gives_back_what_was_written(ids: list[int]) -> None:
    assert collapse(expand(ids, CONFIG), CONFIG) == ids


@given(written)
def test_expanding_twice_changes_nothing(ids: list[int]) -> None:
    once = expand(ids, CONFIG)
    assert expand(once, CONFIG) == once


@given(written)
def test_every_routing_token_owns_its_number_of_positions(ids: list[int]) -> None:
    groups = find_groups(expand(ids, CONFIG), CONFIG)
    assert [IDS[group.token.text] for group in groups] == [i for i in ids if i in CONFIG.routing_ids]
    assert all(group.stop - group.start == group.token.num_links for group in groups)
    assert all(a.stop <= b.position for a, b in pairwise(groups))


def test_several_groups_in_a_row_are_written_each_behind_its_token() -> None:
    assert expand([5, DET, DET, POSE, 6], CONFIG) == [5, DET, *EMB[:4], DET, *EMB[:4], POSE, *EMB[:2], 6]


def test_a_history_with_some_groups_written_out_gets_only_the_lacking_ones() -> None:
    assert expand([DET, *EMB[:4], 7, POSE, 8], CONFIG) == [DET, *EMB[:4], 7, POSE, *EMB[:2], 8]


def test_a_token_without_queries_is_read_at_its_own_position() -> None:
    (group,) = find_groups([3, GRD, 4], CONFIG)
    assert (group.position, group.start, group.stop, group.has_queries) == (1, 1, 2, False)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5, DET, *EMB[:3]], r"'\[DET\]' at position 1 needs 4 link placeholders, got 3"),
        ([POSE, *EMB[:4]], r"'\[POSE\]' at position 0 needs 2 link placeholders, got 4"),
        ([GRD, EMB[0]], r"'\[GRD\]' at position 0 needs 0 link placeholders, got 1"),
        ([5, *EMB[:2]], r"2 link placeholders at position 1 follow no routing token"),
    ],
)
def test_groups_that_were_cut_or_stray_raise_with_both_numbers(ids: list[int], message: str) -> None:
    with pytest.raises(LinkError, match=message):
        find_groups(ids, CONFIG)
    with pytest.raises(LinkError, match=message):
        expand(ids, CONFIG)
