from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superlink.router.batch import RouterBatch, RowLink
from superlink.router.encoding import encode
from superlink.router.errors import InputError, ModelError
from superlink.router.generation import (
    NEVER_WRITTEN,
    Event,
    Finished,
    GenerateOptions,
    GenerationLoop,
    LinkReady,
    Request,
    StepStates,
    TextDelta,
    generate,
    stream,
)
from superlink.router.links import Reply
from superlink.router.messages import Box, ImageArray, Message
from superlink.router.model import Router
from superlink.router.phrases import parse_reply
from superlink.router.tokenizer import RouterTokenizer

FORCEABLE = ("[DET]", "[SEG]", "[POSE]", "[GEN]", "[GRD]")
PICTURE: ImageArray = np.random.default_rng(0).integers(0, 256, (30, 70, 3), dtype=np.uint8)


def request(
    text: str, options: GenerateOptions | None = None, *, picture: bool = False, prompted: bool = False
) -> Request:
    message = Message(
        role="user",
        text=text,
        images=(PICTURE,) if picture else (),
        prompts=(Box(2, 2, 20, 20),) if picture and prompted else (),
    )
    return Request(conversation=(message,), options=options or GenerateOptions(max_new_tokens=12))


def forced(tokenizer: RouterTokenizer, *pieces: str) -> GenerateOptions:
    ids = [index for piece in pieces for index in tokenizer.encode(piece, markup=tokenizer.special_ids)]
    return GenerateOptions(forced=tuple(ids))


def teacher_forced(
    router: Router, tokenizer: RouterTokenizer, requests: Sequence[Request], replies: Sequence[Reply]
) -> list[tuple[RowLink, ...]]:
    """Links of one pass over each prompt and the ids that were written after it, row by row."""
    found = []
    for asked, reply in zip(requests, replies, strict=True):
        prompt = encode(asked.conversation, tokenizer, router.config, training=False)
        ids = prompt.input_ids[0].tolist() + router.expand(reply.token_ids)
        batch = replace(
            prompt,
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.bool),
        )
        with torch.no_grad():
            found.append(router(batch).links[0])
    return found


def check_links(
    router: Router, tokenizer: RouterTokenizer, requests: Sequence[Request], replies: Sequence[Reply]
) -> None:
    for reply, expected in zip(replies, teacher_forced(router, tokenizer, requests, replies), strict=True):
        assert [link.token for link in reply.links] == [link.token for link in expected]
        for link, other in zip(reply.links, expected, strict=True):
            torch.testing.assert_close(link.embeddings, other.embeddings, atol=1e-5, rtol=0)
            assert router.config.routing_ids[reply.token_ids[link.position]] == link.token


words = st.text(alphabet="abc dé😀,.", min_size=1, max_size=25).filter(lambda text: bool(text.strip()))
pieces = st.lists(
    st.one_of(st.sampled_from(FORCEABLE), st.sampled_from([" red circle", "a", "<det>", "</det>", ", "])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(words, min_size=4, max_size=4),
    answers=st.lists(pieces, min_size=4, max_size=4),
    pictures=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_links_of_cached_generation_equal_those_of_a_teacher_forced_pass(
    router: Router,
    tokenizer: RouterTokenizer,
    prompts: list[str],
    answers: list[list[str]],
    pictures: list[bool],
) -> None:
    requests = [
        request(text, forced(tokenizer, *answer), picture=picture)
        for text, answer, picture in zip(prompts, answers, pictures, strict=True)
    ]
    replies = generate(router, tokenizer, requests)
    check_links(router, tokenizer, requests, replies)
    wanted = [[piece for piece in answer if piece in FORCEABLE] for answer in answers]
    assert [[link.token.text for link in reply.links] for reply in replies] == wanted


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(words, min_size=4, max_size=4),
    seeds=st.lists(st.integers(0, 2**31), min_size=4, max_size=4),
    temperature=st.sampled_from([0.0, 0.7, 3.0]),
)
def test_sampled_answers_have_the_links_of_a_teacher_forced_pass_and_do_not_depend_on_the_batch(
    router_that_routes: Router,
    tokenizer: RouterTokenizer,
    prompts: list[str],
    seeds: list[int],
    temperature: float,
) -> None:
    router = router_that_routes
    requests = [
        request(text, GenerateOptions(max_new_tokens=10, temperature=temperature, seed=seed))
        for text, seed in zip(prompts, seeds, strict=True)
    ]
    replies = generate(router, tokenizer, requests)
    check_links(router, tokenizer, requests, replies)
    for asked, reply in zip(requests, replies, strict=True):
        (alone,) = generate(router, tokenizer, [asked])
        assert (alone.token_ids, alone.text, alone.raw) == (reply.token_ids, reply.text, reply.raw)
        for link, other in zip(alone.links, reply.links, strict=True):
            torch.testing.assert_close(link.embeddings, other.embeddings, atol=1e-5, rtol=0)
            assert (link.phrase, link.position) == (other.phrase, other.position)


@pytest.fixture(scope="module")
def router_that_routes(router: Router, tokenizer: RouterTokenizer) -> Router:
    """One that is fond of routing tokens and of ending, so that free answers are of every kind."""
    fond = Router(router.config).eval()
    fond.load_state_dict(router.state_dict())
    with torch.no_grad():
        weight = fond.language.lm_head.weight
        for name in (*FORCEABLE, "</s>", "[EMB]", "<im_patch>"):
            weight[tokenizer.id_of(name)] *= 2
    return fond


def test_free_answers_of_the_test_router_hold_several_kinds_of_tokens(
    router_that_routes: Router, tokenizer: RouterTokenizer
) -> None:
    options = GenerateOptions(max_new_tokens=16, temperature=2.0)
    requests = [request("find", replace(options, seed=seed)) for seed in range(12)]
    replies = generate(router_that_routes, tokenizer, requests)
    assert len({link.token.text for reply in replies for link in reply.links}) >= 3
    assert any(len(reply.token_ids) < 16 for reply in replies)
    written = {tokenizer.special_texts.get(index) for reply in replies for index in reply.token_ids}
    assert not written & set(NEVER_WRITTEN)


def test_a_prompt_with_pictures_regions_and_history_keeps_its_links(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    history = (
        Message(role="user", text="Find it", images=(PICTURE,)),
        Message(role="assistant", text="<det>star</det>[DET] and <det>ring</det>[GEN]"),
    )
    first = request("what is region1?", forced(tokenizer, "a", "[DET]", "b"), picture=True, prompted=True)
    second = request("and now?", forced(tokenizer, "[GEN]", "[DET]"))
    second = replace(second, conversation=(*history, *second.conversation))
    replies = generate(router, tokenizer, [first, second])
    torch.testing.assert_close(
        replies[1].links[0].embeddings,
        teacher_forced(router, tokenizer, [first, second], replies)[1][2].embeddings,
        atol=1e-5,
        rtol=0,
    )
    check_links(router, tokenizer, [first], replies[:1])


def test_events_add_up_to_the_reply(router_that_routes: Router, tokenizer: RouterTokenizer) -> None:
    options = GenerateOptions(max_new_tokens=20, temperature=1.5)
    requests = [request("find the star", replace(options, seed=seed)) for seed in range(8)]
    replies = generate(router_that_routes, tokenizer, requests)
    events = list(stream(router_that_routes, tokenizer, requests))
    for row, reply in enumerate(replies):
        mine = [event for event in events if event.row == row]
        assert "".join(event.text for event in mine if isinstance(event, TextDelta)) == reply.text
        ready = [event.link for event in mine if isinstance(event, LinkReady)]
        assert [(link.token, link.phrase) for link in ready] == [
            (link.token, link.phrase) for link in reply.links
        ]
        assert isinstance(mine[-1], Finished)
        assert mine[-1].reply.token_ids == reply.token_ids
        texts = [token.text for token in router_that_routes.config.tokens]
        parsed = parse_reply(reply.raw, texts, expression="find the star")
        assert parsed.text == reply.text
        assert parsed.phrases == tuple(link.phrase for link in reply.links)


def test_a_link_is_ready_before_anything_after_it_is_read(router: Router, tokenizer: RouterTokenizer) -> None:
    options = forced(tokenizer, "<det>star</det>[DET]", ", and", "[GRD]", " more", "</s>")
    events = list(stream(router, tokenizer, [request("x", options)]))
    kinds = [type(event).__name__ for event in events]
    first = kinds.index("LinkReady")
    assert "".join(event.text for event in events[:first] if isinstance(event, TextDelta)) == "star"
    assert kinds.count("LinkReady") == 2
    assert kinds[-1] == "Finished"


@pytest.mark.parametrize(
    ("pieces", "stop", "reason"),
    [
        (("a", "[DET]"), (), "length"),
        (("a", "[DET]", "b", "c"), ("[DET]",), "stop"),
        (("a", "[DET]", "</s>", "b"), (), "end"),
    ],
)
def test_a_routing_token_at_the_very_end_still_gets_its_link(
    router: Router, tokenizer: RouterTokenizer, pieces: tuple[str, ...], stop: tuple[str, ...], reason: str
) -> None:
    asked = request("find", replace(forced(tokenizer, *pieces), stop=stop))
    other = request("something longer than that", forced(tokenizer, *"abcdefgh"))
    events = list(stream(router, tokenizer, [asked, other]))
    (end,) = [event for event in events if isinstance(event, Finished) and event.row == 0]
    assert end.reason == reason
    assert [link.token.text for link in end.reply.links] == ["[DET]"]
    assert end.reply.raw == "a[DET]"
    check_links(router, tokenizer, [asked], [end.reply])


def test_a_reply_ends_where_the_model_has_no_more_positions(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    small = Router(replace(router.config, llm={**router.config.llm, "max_position_embeddings": 64})).eval()
    small.load_state_dict(router.state_dict())
    asked = request("find", GenerateOptions(forced=tuple(tokenizer.encode("[GEN]", markup=["[GEN]"]) * 9)))
    (reply,) = generate(small, tokenizer, [asked])
    prompt = encode(asked.conversation, tokenizer, small.config, training=False)
    used = prompt.input_ids.shape[1] + len(small.expand(reply.token_ids))
    assert 64 - 16 < used <= 64
    check_links(small, tokenizer, [asked], [reply])


def test_an_instruction_that_leaves_no_room_for_an_answer_is_refused_with_both_numbers(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    loop = GenerationLoop(router, tokenizer)
    with pytest.raises(InputError, match=r"needs 502 positions, the router takes 368"):
        loop.add([request("a1" * 250, GenerateOptions(max_new_tokens=300))])
    with pytest.raises(InputError, match=r"takes 500 of 512 positions"):
        loop.add_encoded(batch_of_ids([5] * 500), [GenerateOptions()], [""])
    assert len(loop) == 0


def test_old_rounds_make_room_for_the_answer(router: Router, tokenizer: RouterTokenizer) -> None:
    old = (Message(role="user", text="a1" * 180), Message(role="assistant", text="b"))
    asked = request("find", GenerateOptions(max_new_tokens=300))
    asked = replace(asked, conversation=(*old, *asked.conversation))
    loop = GenerationLoop(router, tokenizer, observe=lambda states: widths.append(states.widths[0]))
    widths: list[int] = []
    loop.add([asked])
    loop.step()
    short = encode(asked.conversation[-1:], tokenizer, router.config, training=False)
    assert widths == [short.input_ids.shape[1]]


def batch_of_ids(ids: list[int]) -> RouterBatch:
    return RouterBatch(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.bool)
    )


def answer(router: Router, tokenizer: RouterTokenizer, *pieces: str, stop: tuple[str, ...] = ()) -> Reply:
    options = replace(forced(tokenizer, *pieces), stop=stop)
    return generate(router, tokenizer, [request("find", options)])[0]


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("cd",), "ab"),
        (("c",), "ab"),
        (("zz", "de", "bcd"), "a"),
        (("dx",), "abcdef"),
        (("efg",), "abcdef"),
        (("",), "abcdef"),
    ],
)
def test_stop_strings_are_found_across_tokens_and_left_out(
    router: Router, tokenizer: RouterTokenizer, stop: tuple[str, ...], text: str
) -> None:
    reply = answer(router, tokenizer, *"abcdef", stop=stop)
    assert reply.text == reply.raw == text
    assert len(reply.token_ids) == (6 if text == "abcdef" else 4 if stop[0] == "cd" else len(reply.token_ids))


def test_a_stop_string_does_not_reach_across_a_routing_token(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    reply = answer(router, tokenizer, "a", "[DET]", "b", stop=("ab",))
    assert reply.raw == "a[DET]b"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=8))
def test_characters_are_never_cut_in_streaming(router: Router, tokenizer: RouterTokenizer, text: str) -> None:
    options = GenerateOptions(forced=tuple(tokenizer.encode(f"a{text}b")))
    events = list(stream(router, tokenizer, [request("x", options)]))
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(deltas) == f"a{text}b"
    assert all("\ufffd" not in delta for delta in deltas) or "\ufffd" in text


def test_half_a_character_at_the_end_becomes_the_replacement_character(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    ids = tokenizer.encode("a😀")
    options = GenerateOptions(forced=tuple(ids[:-1]))
    (reply,) = generate(router, tokenizer, [request("x", options)])
    assert reply.text == "a\ufffd"


def run(loop: GenerationLoop, steps: int = 10**6) -> list[Event]:
    events: list[Event] = []
    while len(loop) and steps:
        events += loop.step()
        steps -= 1
    return events


def test_rows_join_and_leave_between_steps(router_that_routes: Router, tokenizer: RouterTokenizer) -> None:
    router = router_that_routes
    options = GenerateOptions(max_new_tokens=15, temperature=1.0)
    requests = [
        request("find the star" * (1 + seed % 3), replace(options, seed=seed), picture=seed % 2 == 0)
        for seed in range(6)
    ]
    expected = generate(router, tokenizer, requests)
    loop = GenerationLoop(router, tokenizer)
    events: list[Event] = []
    loop.add(requests[:1])
    events += run(loop, 3)
    loop.add(requests[1:3])
    loop.add(requests[3:4])
    events += run(loop, 4)
    loop.add(requests[4:])
    events += run(loop)
    replies = {event.row: event.reply for event in events if isinstance(event, Finished)}
    assert [replies[row].token_ids for row in range(6)] == [reply.token_ids for reply in expected]
    for row, reply in enumerate(expected):
        for link, other in zip(replies[row].links, reply.links, strict=True):
            torch.testing.assert_close(link.embeddings, other.embeddings, atol=1e-5, rtol=0)


def test_cancelled_rows_say_no_more_and_change_nothing_for_the_others(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    requests = [request(text, forced(tokenizer, "ab", "[DET]", "cdef")) for text in ("one", "two", "three")]
    expected = generate(router, tokenizer, requests)
    loop = GenerationLoop(router, tokenizer)
    numbers = loop.add(requests)
    late = loop.add(requests[:1])
    first = run(loop, 4)
    loop.cancel([numbers[1], *late, 10**6])
    rest = run(loop)
    assert {event.row for event in first} == {*numbers, *late}
    assert {event.row for event in rest} == {numbers[0], numbers[2]}
    replies = {event.row: event.reply for event in rest if isinstance(event, Finished)}
    assert replies[numbers[2]].token_ids == expected[2].token_ids
    torch.testing.assert_close(
        replies[numbers[2]].links[0].embeddings, expected[2].links[0].embeddings, atol=1e-5, rtol=0
    )


def test_rows_cancelled_while_waiting_never_speak(router: Router, tokenizer: RouterTokenizer) -> None:
    loop = GenerationLoop(router, tokenizer)
    numbers = loop.add([request("one"), request("two")])
    loop.cancel(numbers[:1])
    assert {event.row for event in run(loop)} == {numbers[1]}
    loop.cancel(loop.add([request("three")]))
    assert len(loop) == 0
    assert loop.step() == []


def test_a_routing_token_is_one_step(router: Router, tokenizer: RouterTokenizer) -> None:
    widths: list[tuple[int, ...]] = []

    def observe(states: StepStates) -> None:
        widths.append(states.widths)

    loop = GenerationLoop(router, tokenizer, observe=observe)
    loop.add(
        [
            request("x", forced(tokenizer, "a", "[DET]", "b", "[GEN]")),
            request("x", forced(tokenizer, "[POSE]", "a", "b", "c", "d")),
        ]
    )
    run(loop)
    assert widths[1:] == [(1, 3), (5, 1), (1, 1), (8, 1)]


def test_links_own_their_memory(router: Router, tokenizer: RouterTokenizer) -> None:
    link = answer(router, tokenizer, "[DET]").links[0]
    assert link.embeddings.untyped_storage().nbytes() == link.embeddings.numel() * 4


def test_ids_that_are_forced_follow_no_ban(router: Router, tokenizer: RouterTokenizer) -> None:
    ids = (tokenizer.id_of("[EMB3]"), tokenizer.id_of("<im_patch>"))
    (reply,) = generate(router, tokenizer, [request("x", GenerateOptions(forced=ids))])
    assert reply.token_ids == ids
    with pytest.raises(InputError, match="vocabulary"):
        generate(router, tokenizer, [request("x", GenerateOptions(forced=(10**6,)))])


def test_prompts_of_ids_need_no_conversation(router: Router, tokenizer: RouterTokenizer) -> None:
    ids = [tokenizer.id_of("<s>"), *tokenizer.encode("hello")]
    loop = GenerationLoop(router, tokenizer)
    loop.add_encoded(batch_of_ids(ids), [GenerateOptions(max_new_tokens=3)], ["hello"])
    (end,) = [event for event in run(loop) if isinstance(event, Finished)]
    assert len(end.reply.token_ids) <= 3


def test_no_requests_give_no_replies(router: Router, tokenizer: RouterTokenizer) -> None:
    assert generate(router, tokenizer, []) == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"temperature": 10**400},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": math.nan},
        {"forced": ()},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        GenerateOptions(**options)  # type: ignore[arg-type]


def test_one_string_to_stop_at_is_not_taken_for_its_letters() -> None:
    with pytest.raises(InputError, match=r"several strings, got one; write \('abc',\)"):
        GenerateOptions(stop="abc")  # type: ignore[arg-type]


def test_damaged_weights_are_no_reply_without_words(router: Router, tokenizer: RouterTokenizer) -> None:
    damaged = deepcopy(router)
    with torch.no_grad():
        next(damaged.language.lm_head.parameters())[0] = math.nan
    with pytest.raises(ModelError, match="scores are not numbers; are its weights damaged"):
        generate(damaged, tokenizer, [request("find")])


@pytest.mark.parametrize("max_rows", [0, -1])
def test_a_loop_that_could_never_write_is_refused(
    router: Router, tokenizer: RouterTokenizer, max_rows: int
) -> None:
    with pytest.raises(InputError, match=f"max_rows must be at least 1, got {max_rows}"):
        GenerationLoop(router, tokenizer, max_rows=max_rows)


def test_numbers_of_numpy_are_the_same_seed_and_length(router: Router, tokenizer: RouterTokenizer) -> None:
    given = GenerateOptions(max_new_tokens=np.int32(8), temperature=1.5, seed=np.int64(3))  # type: ignore[arg-type]
    assert (type(given.max_new_tokens), type(given.seed)) == (int, int)
    plain = GenerateOptions(max_new_tokens=8, temperature=1.5, seed=3)
    replies = generate(router, tokenizer, [request("find", given), request("find", plain)])
    assert replies[0].token_ids == replies[1].token_ids


def test_more_tokens_may_be_allowed_than_memory_holds_numbers_for(
    router: Router, tokenizer: RouterTokenizer
) -> None:
    options = GenerateOptions(max_new_tokens=1000, temperature=1.5, seed=3)
    boundless = replace(options, max_new_tokens=10**13)
    one, other = generate(router, tokenizer, [request("find", options), request("find", boundless)])
    assert one.token_ids == other.token_ids
