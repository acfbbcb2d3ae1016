"""Reused beginnings of rows: nothing changes but what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from superlink.router.batch import RouterBatch
from superlink.router.cache import RowStates
from superlink.router.encoding import encode
from superlink.router.errors import InputError
from superlink.router.generation import Finished, GenerationLoop, StepStates, generate
from superlink.router.links import Reply
from superlink.router.messages import Box, ImageArray, Message, Prompt
from superlink.router.model import Router
from superlink.router.prefixes import PrefixStore, content_of, extended
from superlink.router.requests import GenerateOptions, Request
from superlink.router.tokenizer import RouterTokenizer
from tests.router.batches import batch_of, example_rows

# Two tiles and an overview each; the left halves are the same, so the first tiles are too.
LEFT, RIGHT, OTHER = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
PICTURE: ImageArray = np.concatenate([LEFT, RIGHT], axis=1)
TWIN: ImageArray = np.concatenate([LEFT, OTHER], axis=1)


@pytest.fixture
def store(router: Router) -> PrefixStore:
    return PrefixStore(router, router.config)


def question(
    text: str, picture: ImageArray | None = None, prompts: Sequence[Prompt] = ()
) -> tuple[Message, ...]:
    images = () if picture is None else (picture,)
    return (Message(role="user", text=text, images=images, prompts=tuple(prompts)),)


def reply(text: str) -> tuple[Message, ...]:
    return (Message(role="assistant", text=text),)


def write(
    router: Router, tokenizer: RouterTokenizer, store: PrefixStore | None, *requests: Request
) -> tuple[list[Reply], list[int]]:
    """The replies in order, and how many positions of each prompt were computed."""
    steps: list[StepStates] = []
    loop = GenerationLoop(router, tokenizer, observe=steps.append, prefixes=store)
    numbers = loop.add(requests)
    replies: dict[int, Reply] = {}
    while len(loop):
        replies |= {event.row: event.reply for event in loop.step() if isinstance(event, Finished)}
    return [replies[number] for number in numbers], list(steps[0].widths)


def check_same(found: Sequence[Reply], expected: Sequence[Reply]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.token_ids, one.raw) == (other.token_ids, other.raw)
        assert [link.phrase for link in one.links] == [link.phrase for link in other.links]
        for link, plain in zip(one.links, other.links, strict=True):
            torch.testing.assert_close(link.embeddings, plain.embeddings, atol=1e-5, rtol=0)


def forced(tokenizer: RouterTokenizer, text: str) -> GenerateOptions:
    return GenerateOptions(forced=tuple(tokenizer.encode(text, markup=tokenizer.special_ids)))


@pytest.fixture
def tiles_seen(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles the vision tower looked at, each time that it did."""
    seen: list[int] = []
    see = router.see

    def counted(tiles: Tensor) -> object:
        seen.append(len(tiles))
        return see(tiles)

    monkeypatch.setattr(router, "see", counted)
    return seen


def test_a_second_round_computes_only_what_is_new(
    router: Router, tokenizer: RouterTokenizer, store: PrefixStore, tiles_seen: list[int]
) -> None:
    said = "Here: <det>star</det>[DET], <det>ring</det>[GEN]."
    first = Request(conversation=question("Find it.", PICTURE), options=forced(tokenizer, f"{said}</s>"))
    ((one,), (width,)) = write(router, tokenizer, store, first)
    assert tiles_seen == [3]
    assert one.raw == said
    conversation = (*first.conversation, *reply(one.raw), *question("And the largest?"))
    second = Request(conversation=conversation, options=forced(tokenizer, "It is <det>it</det>[DET]."))
    found, (computed,) = write(router, tokenizer, store, second)
    assert tiles_seen == [3]
    whole = encode(conversation, tokenizer, router.config, training=False).input_ids.shape[1]
    # All of the first round was known, but for the end that was written last and never read.
    tail = ["</s>", "<s>", *tokenizer.encode("And the largest?"), "</s>"]
    assert computed == len(tail)
    assert computed < whole - width
    check_same(found, generate(router, tokenizer, [second]))
    assert (store.hits, store.positions) == (1, whole - computed)
    assert len(store) == 1  # the second row goes on from the first


def test_a_picture_that_differs_is_read_from_where_it_differs(
    router: Router, tokenizer: RouterTokenizer, store: PrefixStore, tiles_seen: list[int]
) -> None:
    options = forced(tokenizer, "<det>star</det>[DET]</s>")
    first, twin = (Request(conversation=question("Find.", one), options=options) for one in (PICTURE, TWIN))
    write(router, tokenizer, store, first)
    found, (computed,) = write(router, tokenizer, store, twin)
    ids = encode(twin.conversation, tokenizer, router.config, training=False).input_ids[0].tolist()
    # The first tile is that of the other picture; the second and the overview are not.
    start = ids.index(router.config.token_ids.image_patch) + router.config.tokens_per_tile
    assert computed == len(ids) - start
    assert tiles_seen == [3, 2]
    check_same(found, generate(router, tokenizer, [twin]))


def test_a_new_region_on_a_known_picture_needs_its_overview_alone(
    router: Router, tokenizer: RouterTokenizer, store: PrefixStore, tiles_seen: list[int]
) -> None:
    options = forced(tokenizer, "a <det>star</det>[DET]</s>")
    first = Request(conversation=question("Find.", PICTURE, [Box(1, 1, 9, 9)]), options=options)
    ((one,), _) = write(router, tokenizer, store, first)
    history = (*first.conversation, *reply(one.raw))
    second = replace(first, conversation=(*history, *question("And region2?", None, [Box(20, 2, 50, 25)])))
    moved = replace(first, conversation=question("Find.", PICTURE, [Box(1, 1, 9, 10)]))
    tiles_seen.clear()
    found, _ = write(router, tokenizer, store, second, moved)
    assert tiles_seen == [2]  # one overview for each row
    check_same(found, generate(router, tokenizer, [second, moved]))
    again, (computed, _) = write(router, tokenizer, store, second, moved)
    assert computed == 1
    check_same(again, found)


def test_a_conversation_that_lost_its_oldest_rounds_is_written_as_without_reuse(
    router: Router, tokenizer: RouterTokenizer, store: PrefixStore
) -> None:
    options = replace(forced(tokenizer, "<det>star</det>[DET]</s>"), max_new_tokens=100)
    conversation = question("Find the star.", PICTURE)
    computed, said = [], 0
    for number in range(6):
        asked = Request(conversation=conversation, options=options)
        found, widths = write(router, tokenizer, store, asked)
        check_same(found, generate(router, tokenizer, [asked]))
        computed += widths
        said += len(tokenizer.encode(conversation[-1].text))
        more = question(f"And {number}? " + "circle blue 12 " * 20)
        conversation = (*conversation, *reply(found[0].raw), *more)
    whole = encode(conversation, tokenizer, router.config, training=False).input_ids.shape[1]
    assert whole < said  # rounds were dropped on the way
    assert min(computed[1:4]) < 80 < max(computed)


pictures = st.sampled_from([None, PICTURE, TWIN])
rounds = st.tuples(
    st.sampled_from(["find", "find it", "a star", "12"]),
    pictures,
    st.sampled_from(["a", "<det>star</det>[DET].", "x[GEN]", "[GRD]b", "[POSE][SEG]"]),
    st.sampled_from([(), (Box(1, 1, 9, 9),), (Box(1, 1, 9, 9), Box(20, 2, 50, 25))]),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(rounds, min_size=1, max_size=3), min_size=2, max_size=4), st.integers(0, 10**6))
def test_whatever_came_before_replies_are_those_of_a_fresh_loop(
    router: Router,
    tokenizer: RouterTokenizer,
    script: list[list[tuple[str, ImageArray, str, tuple]]],
    limit: int,
) -> None:
    store = PrefixStore(router, router.config, limit=limit)
    asked = []
    for spoken in script:
        conversation: tuple[Message, ...] = ()
        seen = False
        for text, picture, answer, prompts in spoken:
            seen = seen or picture is not None
            conversation = (*conversation, *question(text, picture, prompts if seen else ()))
            asked.append(Request(conversation=conversation, options=forced(tokenizer, f"{answer}</s>")))
            conversation = (*conversation, *reply(answer))
    for start in range(0, len(asked), 2):
        found, _ = write(router, tokenizer, store, *asked[start : start + 2])
        check_same(found, generate(router, tokenizer, asked[start : start + 2]))
        assert store.nbytes <= limit


def states(length: int) -> RowStates:
    return RowStates(keys=(torch.zeros(1, length, 8),), values=(torch.zeros(1, length, 8),))


def content(*ids: int) -> np.ndarray:
    return np.array([[index, 0, 0] for index in ids], np.int64)


def test_what_was_not_needed_for_the_longest_goes_first(router: Router) -> None:
    rows = [content(*range(100 * start, 100 * start + 20)) for start in range(1, 5)]
    store = PrefixStore(router, router.config, limit=3 * states(20).nbytes)
    for row in rows[:3]:
        store.keep(row, states(20))
    assert store.find(rows[0]) is not None
    store.keep(rows[3], states(20))
    assert [store.find(row) is not None for row in rows] == [True, False, True, True]
    assert store.nbytes == 3 * states(20).nbytes
    store.keep(content(*range(1000, 1100)), states(100))  # too large for all of it
    assert len(store) == 3


def test_a_row_takes_the_place_of_those_that_it_continues(router: Router, store: PrefixStore) -> None:
    store.keep(content(*range(10)), states(10))
    store.keep(content(*range(15)), states(15))
    store.keep(content(*range(12)), states(12))
    assert (len(store), store.nbytes) == (1, states(15).nbytes)
    prefix = store.find(content(*range(12)))
    assert prefix is not None
    assert prefix.length == 11  # the last position has to say what comes next


def test_weights_that_change_make_the_store_forget(router: Router) -> None:
    changing = Router(router.config)
    store = PrefixStore(changing, router.config)
    store.keep(content(*range(10)), states(10))
    assert store.find(content(*range(12))) is not None
    with torch.no_grad():
        changing.language.lm_head.weight.add_(1)
    assert store.find(content(*range(12))) is None
    assert (len(store), store.nbytes) == (0, 0)


def test_no_cut_goes_through_a_tile_or_a_link_group(router: Router) -> None:
    config = router.config
    for ids in example_rows(config):
        row = batch_of(config, [ids]).rows()[0]
        whole = content_of(row, config)
        for length in range(1, len(ids) + 1):
            store = PrefixStore(router, config)
            store.keep(whole, states(len(ids)))
            prefix = store.find(whole[:length])
            if prefix is None:
                continue
            assert prefix.length < length
            router.groups(row.input_ids[:, : prefix.length], row.attention_mask[:, : prefix.length])
            visual = (row.input_ids[0, : prefix.length] == config.token_ids.image_patch).sum()
            assert visual % config.tokens_per_tile == 0


def test_content_says_what_stands_behind_visual_tokens_and_regions(router: Router) -> None:
    config = router.config
    row = batch_of(config, example_rows(config)[1:2]).rows()[0]
    assert row.tiles is not None
    assert row.regions is not None
    before = content_of(row, config)
    regions = (row.input_ids[0] == config.token_ids.region).nonzero()[:, 0].tolist()
    patches = (row.input_ids[0] == config.token_ids.image_patch).nonzero()[:, 0].tolist()
    tiles, masks = row.tiles.clone(), row.regions.clone()
    tiles[1, 0, 0, 0] += 1  # the overview of the first picture, on which the second region lies
    masks[0, 0, 0, 0] = 1 - masks[0, 0, 0, 0]
    n = config.tokens_per_tile

    def changed(other: RouterBatch) -> list[int]:
        return (before != content_of(other, config)).any(axis=1).nonzero()[0].tolist()

    assert changed(replace(row, tiles=tiles)) == sorted([*patches[n : 2 * n], regions[1]])
    assert changed(replace(row, regions=masks)) == regions[:1]


def test_content_goes_on_with_what_was_written(router: Router) -> None:
    ids = router.config.token_ids
    written = [7, ids["[DET]"], 8, ids.eos]
    longer = extended(content(1, 2, 3), written, router.config, 3 + 7)
    assert longer[:, 0].tolist() == [1, 2, 3, *router.expand(written)][:10]


@pytest.mark.parametrize("which", range(4))
def test_the_tail_of_a_row_is_embedded_as_in_the_whole_row(router: Router, which: int) -> None:
    config = router.config
    rows = example_rows(config)
    batch = batch_of(config, [rows[which], rows[0]])
    with torch.no_grad():
        whole = router.embed(batch)
        inside = False
        for start in range(len(rows[which])):
            tail = batch.tail([start, 1])
            before = sum(index == config.token_ids.image_patch for index in rows[which][:start])
            if before % config.tokens_per_tile:
                inside = True
                with pytest.raises(InputError, match="inside a tile"):
                    router.embed(batch, starts=[start, 1])
                continue
            found = router.embed(batch, starts=[start, 1])
            torch.testing.assert_close(found[tail], whole[tail], atol=1e-5, rtol=0)
    assert inside == (config.tokens_per_tile > 1 and config.token_ids.image_patch in rows[which])


def test_rows_of_a_batch_can_be_taken_apart_and_joined(router: Router) -> None:
    config = router.config
    batch = replace(batch_of(config, example_rows(config)), labels=None)
    apart = batch.rows()
    assert [row.input_ids.tolist() for row in apart] == [[ids] for ids in example_rows(config)]
    joined = RouterBatch.joined(apart, pad=config.token_ids.pad)
    for one, other in ((joined.tiles, batch.tiles), (joined.regions, batch.regions)):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert torch.equal(joined.input_ids, batch.input_ids)
    assert torch.equal(joined.attention_mask, batch.attention_mask)
    assert (joined.tile_counts, joined.region_images) == (batch.tile_counts, batch.region_images)
