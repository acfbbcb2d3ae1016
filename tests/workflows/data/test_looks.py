"""Words of questions and captions know which things they are about."""

from __future__ import annotations

import re

import numpy as np
import pytest

from superlink.workflows.data.instructions.words import COLORS, SHAPES, plural
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.answers import objects_named, short_answer
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ShapesMix, ShapesSamples

SHAPE_OF = {form: shape for noun, shape in SHAPES.items() for form in (noun, plural(noun))}


def samples(task: str, count: int) -> list[Sample]:
    drawn = ShapesSamples(count, seed=4, mix=ShapesMix.only(task), scenes=SceneConfig(height=96, width=96))
    return [drawn[index] for index in range(count)]


def names(sample: Sample, things: tuple[int, ...]) -> set[str]:
    assert sample.shown is not None
    return {sample.shown.names[sample.shown.labels[thing]] for thing in things}


@pytest.mark.parametrize("task", ["vqa", "quiz", "caption"])
def test_looks_lie_in_their_texts_and_name_things_of_the_picture(task: str) -> None:
    looks = 0
    for sample in samples(task, 40):
        assert sample.shown is not None
        for look in sample.looks:
            text = sample.conversation[look.message].text
            assert 0 <= look.start < look.stop <= len(text)
            assert set(look.things) <= set(range(len(sample.shown.masks)))
            looks += 1
    assert looks > 40


def test_a_caption_looks_at_what_it_names_from_left_to_right() -> None:
    for sample in samples("caption", 30):
        assert sample.shown is not None
        reply = sample.conversation[1].text
        assert sum(len(look.things) for look in sample.looks) == len(sample.shown.masks)  # each thing once
        for look in sample.looks:
            ((color, shape),) = objects_named(reply[look.start : look.stop])
            assert names(sample, look.things) == {f"{color} {shape}"}
        first = [min(sample.shown.xyxy[list(look.things)][:, [0, 2]].mean(1)) for look in sample.looks]
        assert first == sorted(first)


def test_phrases_of_questions_look_at_things_of_their_shapes_and_colours() -> None:
    checked = 0
    for sample in samples("quiz", 60):
        for look in sample.looks:
            if look.message % 2 or not look.things:
                continue
            words = re.findall(
                r"[a-z]+", sample.conversation[look.message].text[look.start : look.stop].lower()
            )
            things = names(sample, look.things)
            for word in words:
                if word in SHAPE_OF:
                    assert {name.split()[1] for name in things} == {SHAPE_OF[word]}
                    checked += 1
                if word in COLORS:
                    assert {name.split()[0] for name in things} == {COLORS[word]}
                    checked += 1
    assert checked > 200


def test_a_reply_looks_at_what_it_tells() -> None:
    """Colours, shapes and numbers of replies, read off the things that they look at."""
    told = {"color": 0, "shape": 0, "count": 0}
    for sample in samples("vqa", 150):
        kind = sample.task.split("/")[1]
        replies = [look for look in sample.looks if look.message == 1]
        value = short_answer(sample.conversation[1].text)
        if kind in ("color", "shape"):
            (look,) = replies
            assert {name.split()[kind == "shape"] for name in names(sample, look.things)} == {value}
        elif kind == "count":
            numbers = ("zero", "one", "two", "three", "four", "five", "six")
            assert sum(len(look.things) for look in replies) == numbers.index(value)
        else:
            continue
        told[kind] += 1
    assert min(told.values()) > 10


def test_a_picture_of_a_question_shows_its_things_where_their_masks_are() -> None:
    (sample,) = samples("caption", 1)
    assert sample.shown is not None
    assert sample.image is not None
    (picture,) = sample.conversation[0].images
    np.testing.assert_array_equal(picture, sample.image)
    assert sample.shown.size == picture.shape[:2]
