"""Rows of words alone: orders that no scene has to fit, and several orders at once."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.decoders.artifacts import Boxes, Masks
from superlink.workflows.data.instructions.answers import expected_routing, routing_of
from superlink.workflows.data.instructions.words import COLORS
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS
from superlink.workflows.data.shapes_samples import ShapesMix, TextSamples
from tests.workflows.data.streams import some

LENGTH = 10**6
indices = st.integers(0, LENGTH - 1)
splits = st.sampled_from(("train", "heldout"))


def spoken(task: str, index: int, split: str = "train") -> Sample:
    return TextSamples(LENGTH, seed=6, split=split, mix=ShapesMix.only(task))[index]  # type: ignore[arg-type]


@settings(max_examples=150)
@given(index=indices, split=splits)
def test_a_picture_that_is_only_spoken_of_is_asked_for_in_the_words_of_the_sentence(
    index: int, split: str
) -> None:
    sample = spoken("generate", index, split)
    ((token, phrase),) = expected_routing(sample)
    assert token == "[GEN]"
    assert phrase.lower() in sample.conversation[-2].text.lower()
    assert not phrase.startswith(("a ", "an "))


@settings(max_examples=150)
@given(index=indices, split=splits)
def test_a_change_that_is_only_spoken_of_names_every_word_of_what_and_how(index: int, split: str) -> None:
    sample = spoken("edit", index, split)
    ((token, phrase),) = expected_routing(sample)
    assert token == "[EDIT]"
    verb, _, rest = phrase.partition(" ")
    assert verb in ("make", "remove", "add")
    text = sample.conversation[-2].text.lower()
    words = rest.removeprefix("the background ") if verb == "make" else rest
    missing = [word for word in re.findall(r"[\w-]+", words.lower()) if word not in text]
    assert missing in ([], ["the"]), (text, phrase)


def test_spoken_pictures_go_beyond_what_scenes_show() -> None:
    asked = [expected_routing(spoken("generate", index))[0][1] for index in range(400)]
    assert (
        sum(bool(re.search(r"\b(four|five|six|seven|eight|nine|ten|many|several)\b", one)) for one in asked)
        > 30
    )
    assert sum(bool(re.search(r"\b(inside|around|behind|between|on top of)\b", one)) for one in asked) > 15
    assert sum(" and " in one for one in asked) > 40
    colors = Counter(color for one in asked for color in COLORS if re.search(rf"\b{color}\b", one))
    assert set(colors) == set(COLORS)


def test_spoken_poses_name_people_and_joints_that_exist() -> None:
    said: Counter[str] = Counter()
    for index in range(400):
        sample = spoken("pose", index)
        routed = expected_routing(sample)
        joints = [phrase for token, phrase in routed if token == "[POSE]"]
        assert joints
        assert set(joints) <= set(KEYPOINTS)
        assert len(set(routed)) == len(routed)
        said["everyone"] += bool(re.search("everyone|everybody|anyone", sample.conversation[0].text.lower()))
    assert said["everyone"] > 5


@settings(max_examples=100)
@given(index=indices, split=splits)
def test_orders_of_one_sentence_are_answered_in_their_order(index: int, split: str) -> None:
    sample = spoken("several", index, split)
    asked = [message.text.lower() for message in sample.conversation[::2]]
    answers = [routing_of(message.text) for message in sample.conversation[1::2]]
    assert len(asked) == len(answers)
    if len(asked) == 1:
        assert len(answers[0]) >= 2
        assert len(set(answers[0])) == len(answers[0])
    for text, routed in zip(asked, answers, strict=True):
        made = [phrase.lower() for token, phrase in routed if token == "[GEN]"]
        places = [text.index(phrase) for phrase in made]
        assert places == sorted(places)


def test_several_orders_are_one_sentence_or_rounds() -> None:
    rounds = Counter(len(spoken("several", index).conversation) // 2 for index in range(200))
    assert rounds[1] > 80
    assert rounds[2] > 30
    assert rounds[3] > 3


def test_several_orders_about_a_scene_have_the_boxes_and_masks_of_all() -> None:
    seen: Counter[str] = Counter()
    for sample in some("several", 40):
        routed = expected_routing(sample)
        for target in sample.targets:
            assert isinstance(target.artifact, Masks if target.token == "[SEG]" else Boxes)
            assert target.artifact.names == tuple(phrase for token, phrase in routed if token == target.token)
            seen[target.token] += 1
        assert {token for token, _ in routed} == {target.token for target in sample.targets}
    assert min(seen[token] for token in ("[DET]", "[SEG]", "[GRD]")) > 3
