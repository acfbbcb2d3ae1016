"""Samples: deterministic, well formed, and true to their scenes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.decoders.artifacts import Boxes, Masks
from superlink.router.phrases import parse_reply
from superlink.router.prompts import prompt_mask
from superlink.workflows.data.instructions.grammar import Split, templates, word_list
from superlink.workflows.data.instructions.mix import ShapesMix
from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.vocabulary import nouns
from superlink.workflows.data.instructions.words import COLORS, GENERIC, HALVES, PLACES, SHAPES, plural
from superlink.workflows.data.samples import Dataset, Sample
from superlink.workflows.data.scene_phrases import ScenePhrases
from superlink.workflows.data.shapes import COLOR_NAMES, Scene, SceneConfig
from superlink.workflows.data.shapes import SHAPES as DRAWN
from superlink.workflows.data.shapes_samples import (
    ClassSamples,
    ShapesSamples,
    TextSamples,
    corpus,
    expected_routing,
    scene_seed,
)

TOKENS = ("[DET]", "[GRD]", "[SEG]")
ANSWER = re.compile(r"(Here they are|Here it is|Outlined):(<det> [^<>\[\]]+</det>\[(DET|GRD|SEG)\](,|\.$))+")
TAIL_LISTS = ("relations", "plural relations", "areas")
PLURALS = {plural(noun) for noun in (*SHAPES, *GENERIC, *nouns())} - {*SHAPES, *GENERIC, *nouns()}
TAILS = sorted(
    {
        f" {tail}"
        for tails in (*PLACES.values(), *HALVES.values(), *(word_list(name) for name in TAIL_LISTS))
        for tail in tails
    },
    key=len,
    reverse=True,
)
SPLITS: tuple[Split, ...] = ("train", "heldout")

indices = st.integers(0, 10**6 - 1)
splits = st.sampled_from(SPLITS)


def check_conversation(sample: Sample) -> None:
    roles = [message.role for message in sample.conversation]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    for message in sample.conversation:
        assert message.text.strip() == message.text != ""
        assert not re.search(r"[{}~]", message.text)
        if message.role == "user":
            assert not re.search(r"<|\[[A-Z]{3}\]", message.text)
        elif "[" in message.text:
            assert ANSWER.fullmatch(message.text), message.text


@settings(max_examples=200)
@given(index=indices, split=splits)
def test_every_text_sample_is_a_well_formed_conversation(index: int, split: Split) -> None:
    sample = TextSamples(10**6, split=split)[index]
    check_conversation(sample)
    assert sample.image is None
    assert sample.targets == ()


@settings(max_examples=20)
@given(index=indices, split=splits)
def test_a_picture_in_front_changes_no_word_of_a_text_sample(index: int, split: Split) -> None:
    scenes = SceneConfig(height=48, width=64)
    bare, behind = (TextSamples(10**6, split=split, pictures=pictures)[index] for pictures in (None, scenes))
    assert [(m.role, m.text) for m in behind.conversation] == [(m.role, m.text) for m in bare.conversation]
    assert [len(m.images) for m in behind.conversation] == [1] + [0] * (len(bare.conversation) - 1)
    scene = Scene.generate(scene_seed(f"unseen:{split}", 0, index), scenes)
    np.testing.assert_array_equal(behind.conversation[0].images[0], scene.image())
    assert behind.unseen
    assert not bare.unseen
    assert behind.targets == ()
    assert behind.image is None  # there is nothing for decoders to look at


@settings(max_examples=200)
@given(index=indices)
def test_the_routers_own_reader_finds_the_expected_phrases(index: int) -> None:
    sample = TextSamples(10**6)[index]
    routed = expected_routing(sample)
    raw = sample.conversation[-1].text
    assert parse_reply(raw, TOKENS).phrases == tuple(phrase for _, phrase in routed)
    assert re.findall(r"\[[A-Z]+\]", raw) == [token for token, _ in routed]


@settings(max_examples=200)
@given(index=indices)
def test_phrases_are_singular_lower_case_and_without_article(index: int) -> None:
    for _, phrase in expected_routing(TextSamples(10**6)[index]):
        assert phrase == phrase.lower()
        words = phrase.split(" ")
        assert words[0] not in ("a", "an", "the", "every", "all", "each", "any", "both")
        head = next((phrase.removesuffix(tail) for tail in TAILS if phrase.endswith(tail)), phrase)
        assert head.split(" ")[-1] not in PLURALS, phrase


@settings(max_examples=200)
@given(index=indices, split=splits)
def test_the_same_index_always_gives_the_same_text(index: int, split: Split) -> None:
    first, second = (TextSamples(10**6, seed=5, split=split)[index] for _ in range(2))
    assert [m.text for m in first.conversation] == [m.text for m in second.conversation]
    assert first.task == second.task


@settings(max_examples=25)
@given(index=indices, split=splits)
def test_a_shapes_sample_names_in_its_targets_what_its_answer_names(index: int, split: Split) -> None:
    sample = ShapesSamples(10**6, split=split)[index]
    check_conversation(sample)
    assert sample.image is not None
    routed = expected_routing(sample)
    assert [target.token for target in sample.targets] == list(dict.fromkeys(token for token, _ in routed))
    for target in sample.targets:
        artifact = target.artifact
        assert isinstance(artifact, Masks if target.token == "[SEG]" else Boxes)
        assert artifact.names == tuple(phrase for token, phrase in routed if token == target.token)
        assert artifact.size == sample.image.shape[:2]
        assert np.all(artifact.labels < len(artifact.names))
        if target.token == "[GRD]":
            assert max(Counter(artifact.labels.tolist()).values(), default=0) <= 1
    for message in sample.conversation:
        for prompt in message.prompts:
            assert prompt_mask(prompt, sample.image.shape[:2]).any()


def test_the_same_index_always_gives_the_same_scene_and_targets() -> None:
    for index in (0, 7, 123):
        first, second = (ShapesSamples(1000, seed=2)[index] for _ in range(2))
        assert first.image is not None
        assert second.image is not None
        np.testing.assert_array_equal(first.image, second.image)
        assert [m.text for m in first.conversation] == [m.text for m in second.conversation]
        for left, right in zip(first.targets, second.targets, strict=True):
            assert isinstance(left.artifact, Boxes | Masks)
            assert isinstance(right.artifact, Boxes | Masks)
            np.testing.assert_array_equal(left.artifact.xyxy, right.artifact.xyxy)


@pytest.mark.parametrize("make", [TextSamples, ShapesSamples])
def test_an_index_past_the_end_is_refused(make: Callable[[int], Dataset]) -> None:
    with pytest.raises(IndexError):
        make(3)[3]
    assert len(make(3)) == 3


def test_held_out_wordings_never_occur_in_texts_for_training() -> None:
    def texts(split: Split, count: int) -> set[str]:
        samples = TextSamples(count, split=split)
        return {samples[k].conversation[0].text.lower().rstrip(".?! ") for k in range(count)}

    assert not texts("heldout", 1500) & texts("train", 5000)


def test_a_mix_draws_only_what_it_asks_for() -> None:
    silent = dict.fromkeys(("detect", "ground", "segment", "mixed", "nothing", "partial"), 0.0)
    mix = replace(ShapesMix(), **silent, region=0.0, dialogue=0.0)
    chat = TextSamples(200, mix=mix)
    assert {chat[k].task for k in range(200)} == {"chat"}
    assert all(not expected_routing(chat[k]) for k in range(200))


def test_about_a_third_of_the_classes_are_absent() -> None:
    counts = [
        int(np.count_nonzero(target.artifact.labels == k))
        for sample in map(ShapesSamples(80, seed=9).__getitem__, range(80))
        for target in sample.targets
        if target.token == "[DET]" and isinstance(target.artifact, Boxes)
        for k in range(len(target.artifact.names))
    ]
    absent = sum(count == 0 for count in counts) / len(counts)
    assert 0.2 < absent < 0.5


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_a_colour_and_shape_phrase_selects_exactly_those_objects(seed: int) -> None:
    scene = Scene.generate(seed)
    source = ScenePhrases(scene)
    for item in scene.objects:
        chosen = source.objects(described(item.shape, color="grey" if item.color == "gray" else item.color))
        brute = [o.index for o in scene.objects if (o.shape, o.color) == (item.shape, item.color)]
        assert [o.index for o in chosen] == brute
    assert len(source.objects(described("thing"))) == len(scene.objects)
    assert source.objects(Phrase(noun="traffic light")) == []


def test_every_shape_and_colour_word_means_something_that_is_drawn() -> None:
    assert set(SHAPES.values()) == set(DRAWN)
    assert set(COLORS.values()) == set(COLOR_NAMES)


def test_the_corpus_is_plain_text_without_special_tokens() -> None:
    texts = list(corpus(400, seed=3))
    assert len(texts) == 400
    assert texts == list(corpus(400, seed=3))
    assert not any(re.search(r"</?det>|\[(DET|GRD|SEG)\]", text) for text in texts)


def test_plain_answers_come_from_the_chat_file() -> None:
    known = {template.section for template in templates("chat")}
    mix = ShapesMix()
    for index in range(300):
        sample = TextSamples(300, mix=mix, seed=4)[index]
        if sample.task == "chat":
            assert sample.conversation[-1].text in known


def test_class_samples_ask_for_every_shape_and_colour_and_know_all_objects() -> None:
    sample = ClassSamples(20)[3]
    (target,) = sample.targets
    assert isinstance(target.artifact, Boxes)
    names = target.artifact.names
    assert set(names) == set(DRAWN) | set(COLOR_NAMES)
    assert [name for _, name in expected_routing(sample)] == list(names)
    found = {
        (tuple(box), names[label])
        for box, label in zip(target.artifact.xyxy.tolist(), target.artifact.labels, strict=True)
    }
    assert len({box for box, _ in found}) * 2 == len(found)  # every object has a shape and a colour
    assert found


@pytest.mark.parametrize("index", range(12))
def test_without_targets_the_router_sees_the_picture_and_decoders_have_nothing_to_see(index: int) -> None:
    sample = ShapesSamples(100, seed=4, targets=False)[index]
    assert sample.image is None
    assert sample.targets == ()
    assert len(sample.conversation[0].images) == 1
    assert sample.task in {"detect", "ground", "segment", "mixed", "negation", "chat", "region", "dialogue"}


def test_one_object_may_be_spoken_of_without_being_asked_for() -> None:
    """ "Make the leftmost star bigger" is no order to find it."""
    chat = TextSamples(1000, seed=2, mix=ShapesMix.only("chat"))
    texts = [chat[index].conversation[-2].text.lower() for index in range(1000)]
    singled = re.compile(
        r"the \S*(most|est)\b|in the (top|bottom|upper|lower) (left|right)|from the (left|right)"
    )
    assert sum(singled.search(text) is not None for text in texts) > 12
    assert all(expected_routing(chat[index]) == () for index in range(1000))
