"""Tasks about scenes that are answered in words: balanced, and true to the scene."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from superlink.decoders.artifacts import Boxes
from superlink.router.errors import DataError
from superlink.router.prompts import prompt_mask
from superlink.workflows.data.instructions.answers import NO_ANSWER, NO_PICTURES, NO_WORDS, expected_routing
from superlink.workflows.data.instructions.mix import ShapesMix, corpus
from superlink.workflows.data.scene_tasks import SCENE_TASKS, SPOKEN_TASKS, World
from superlink.workflows.data.scene_tasks.answers import COUNTED, objects_named, short_answer
from superlink.workflows.data.scene_tasks.questions import _count
from superlink.workflows.data.shapes import COLOR_NAMES, SHAPES
from superlink.workflows.data.shapes_samples import TextSamples
from tests.workflows.data.streams import SILENT, SMALL, only, stream


def test_answers_of_every_kind_of_question_are_balanced() -> None:
    answers: dict[str, Counter[str]] = {}
    for seed in range(600):
        world = World(seed=seed, config=SMALL, is_drawn=False)
        sample = SCENE_TASKS["vqa"](Random(seed), "train", world)
        if sample is None:
            continue
        assert sample.answer is not None
        assert sample.targets == ()
        assert short_answer(sample.conversation[-1].text) == sample.answer
        answers.setdefault(sample.task, Counter())[sample.answer] += 1
    assert all(0.8 < 5 * found.total() / 600 < 1.2 for found in answers.values())
    shares = {
        task: {answer: count / found.total() for answer, count in found.items()}
        for task, found in answers.items()
    }
    assert 0.42 < shares["vqa/yes-no"]["yes"] < 0.58
    assert set(shares["vqa/color"]) == set(COLOR_NAMES)
    assert max(shares["vqa/color"].values()) < 0.18
    assert set(shares["vqa/shape"]) == set(SHAPES)
    assert max(shares["vqa/shape"].values()) < 0.2
    assert set(shares["vqa/count"]) == set(COUNTED[:7])
    assert max(shares["vqa/count"].values()) < 0.22
    assert min(shares["vqa/count"].values()) > 0.08
    for one, other in (("left", "right"), ("top", "bottom"), ("above", "below")):
        assert 0.5 < answers["vqa/position"][one] / answers["vqa/position"][other] < 2


def test_a_bare_count_or_colour_is_right() -> None:
    """Questions whose words say colour and shape plainly, against a count over the scene's own objects."""
    checked = 0
    for seed in range(150):
        world = World(seed=seed, config=SMALL, is_drawn=False)
        found = _count(Random(seed), world)
        if found is None:
            continue
        (_, slots, reply), seen = found
        (phrase,) = slots["q"]
        meaning = phrase.meaning  # type: ignore[union-attr]
        assert meaning is not None
        if meaning.size or meaning.half:
            continue
        truth = sum(
            meaning.shape in (None, item.shape) and meaning.color in (None, item.color)
            for item in seen.scene.objects
        )
        assert reply == f"I count {COUNTED[truth]}."
        checked += 1
    assert checked > 100


def test_a_caption_names_what_the_scene_of_its_index_holds() -> None:
    samples = stream("caption")
    for index in range(25):
        sample = samples[index]
        truth = Counter((item.color, item.shape) for item in samples.scene(index).objects)
        assert objects_named(sample.conversation[-1].text) == truth
        assert sample.answer is not None
        assert objects_named(sample.answer) == truth


def test_a_grounded_caption_boxes_every_object_once() -> None:
    samples = stream("grounded_caption")
    for index in range(15):
        sample, objects = samples[index], samples.scene(index).objects
        (target,) = sample.targets
        assert isinstance(target.artifact, Boxes)
        boxes = {
            tuple(box): name
            for box, name in zip(target.artifact.xyxy.tolist(), target.artifact.phrases, strict=True)
        }
        assert boxes == {tuple(map(float, item.box)): f"{item.color} {item.shape}" for item in objects}


def test_a_region_is_called_what_was_marked() -> None:
    samples = stream("recognition")
    for index in range(40):
        sample = samples[index]
        assert sample.answer is not None
        user = sample.conversation[0]
        named = sample.answer.split(" and ")
        assert len(named) == len(user.prompts)
        for prompt, words in zip(user.prompts, named, strict=True):
            area = prompt_mask(prompt, user.images[0].shape[:2])
            hit = max(samples.scene(index).objects, key=lambda item: np.count_nonzero(item.mask & area))
            assert set(words.split()) <= {hit.color, hit.shape}


def test_words_alone_teach_what_words_alone_settle() -> None:
    for task in SCENE_TASKS:
        if task not in SPOKEN_TASKS:
            with pytest.raises(DataError, match=f"words alone do not answer {task}"):
                TextSamples(10, mix=only(task))
            continue
        samples = TextSamples(20, mix=only(task))
        for index in range(20):
            sample = samples[index]
            assert sample.image is None
            assert sample.targets == ()
            assert not any(message.images or message.prompts for message in sample.conversation)
            assert expected_routing(sample)


def test_chat_no_longer_refuses_what_a_mix_teaches() -> None:
    talk = replace(ShapesMix(**SILENT), chat=1.0)
    replies = {TextSamples(600, mix=talk)[index].conversation[-1].text for index in range(600)}
    assert {NO_WORDS, NO_PICTURES} <= replies
    assert NO_ANSWER not in replies
    able = replace(talk, generate=1e-9)
    replies = {TextSamples(600, mix=able)[index].conversation[-1].text for index in range(600)}
    assert NO_WORDS in replies
    assert NO_PICTURES not in replies
    answering = replace(talk, elsewhere=("vqa",))
    replies = {TextSamples(900, mix=answering)[index].conversation[-1].text for index in range(900)}
    assert NO_WORDS not in replies
    assert NO_ANSWER in replies


def test_a_tokenizer_learns_the_words_of_every_task_of_a_mix() -> None:
    everything = replace(ShapesMix(**SILENT), **dict.fromkeys(SCENE_TASKS, 1.0))
    text = " ".join(corpus(1500, seed=2, mix=everything)).lower()
    assert all(word in text for word in ("wrist", "ankle", "i count", "background", "painted", "caption"))
    assert "[" not in text


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes.", "yes"),
        ("It is grey.", "gray"),
        ("It is a plus sign.", "plus sign"),
        ("It is on the left.", "left"),
        ("It is in the top right.", "top right"),
        ("It is above.", "above"),
        ("It is orange.", "orange"),
        ("I count three.", "three"),
        ("3", "three"),
        ("They are a red circle and an orange star.", "red circle and orange star"),
    ],
)
def test_short_answers_are_what_a_reply_says(reply: str, answer: str) -> None:
    assert short_answer(reply) == answer


def test_objects_of_a_sentence_are_counted_by_colour_and_shape() -> None:
    said = objects_named("I see two red circles, an orange person, 3 grey people and a star on a white page.")
    assert said == {("red", "circle"): 2, ("orange", "person"): 1, ("gray", "person"): 3}


def test_objects_without_a_number_are_one_and_those_that_are_denied_none() -> None:
    text = "There are two large red circles, a grey plus sign, no blue star, violet people and 3 pink boxes."
    assert objects_named(text) == {("red", "circle"): 2, ("gray", "cross"): 1, ("purple", "person"): 1}
