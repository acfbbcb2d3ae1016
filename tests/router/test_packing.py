"""Packing takes rows apart and puts them back, and changes nothing that a row sees."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.router.cache import SlotCache
from superlink.router.generation import GenerateOptions, Request, generate
from superlink.router.messages import Message
from superlink.router.model import Router
from superlink.router.packing import PACKED, Packing
from superlink.router.tokenizer import RouterTokenizer

WIDTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)
CPU = torch.device("cpu")


@given(WIDTHS)
def test_rows_come_back_as_they_were_packed(widths: list[int]) -> None:
    packing = Packing.of(widths, [0] * len(widths), CPU)
    packed = torch.arange(1.0, 1 + 2 * sum(widths)).reshape(-1, 2)
    rows = packing.unpack(packed)
    torch.testing.assert_close(packing.pack(rows), packed)
    for row, own, width in zip(rows, packed.split(widths), widths, strict=True):
        torch.testing.assert_close(row[:width], own)
        assert not row[width:].any()


@given(WIDTHS, st.data())
def test_slots_go_on_from_the_start_of_each_row(widths: list[int], data: st.DataObject) -> None:
    starts = [data.draw(st.integers(0, 50)) for _ in widths]
    packing = Packing.of(widths, starts, CPU)
    expected = [
        start + column for start, width in zip(starts, widths, strict=True) for column in range(width)
    ]
    assert packing.slots.tolist() == expected
    assert packing.slots[packing.ends].tolist() == [
        start + width - 1 for start, width in zip(starts, widths, strict=True)
    ]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4))
def test_every_row_sees_itself_alone(router: Router, shape: list[tuple[int, int]]) -> None:
    """Two packed passes with a cache against one pass over each row without any."""
    rows = [torch.randn(sum(parts), router.config.width) for parts in shape]
    cache = SlotCache(len(rows))
    found: list[list[torch.Tensor]] = [[] for _ in rows]
    starts = [0] * len(rows)
    with torch.no_grad():
        for part in range(2):
            widths = [parts[part] for parts in shape]
            packing = Packing.of(widths, starts, CPU)
            chunks = [row[a : a + w] for row, a, w in zip(rows, starts, widths, strict=True)]
            cache.place(packing.rows, packing.slots, packing.used)
            hidden = router.language.model(
                inputs_embeds=torch.cat(chunks)[None],
                attention_mask=packing.mask(torch.float32),
                position_ids=packing.slots[None],
                past_key_values=cache,
                use_cache=True,
                packing=packing,
            ).last_hidden_state[0]
            for states, own in zip(found, hidden.split(widths), strict=True):
                states.append(own)
            starts = [a + w for a, w in zip(starts, widths, strict=True)]
        for row, states in zip(rows, found, strict=True):
            alone = router.language.model(inputs_embeds=row[None], use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(torch.cat(states), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_writing_leaves_the_attention_that_was_chosen(
    router: Router, tokenizer: RouterTokenizer, attention: str
) -> None:
    chosen = copy.deepcopy(router)
    chosen.language.set_attn_implementation(attention)
    asked = [
        Request(conversation=(Message(role="user", text=text),), options=GenerateOptions(max_new_tokens=4))
        for text in ("red", "the blue star")
    ]
    replies = generate(chosen, tokenizer, asked)
    assert chosen.language.config._attn_implementation == attention
    assert router.language.config._attn_implementation == PACKED
    assert [one.token_ids for one in replies] == [one.token_ids for one in generate(router, tokenizer, asked)]
