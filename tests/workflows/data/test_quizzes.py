"""Quizzes: many questions about one scene, each with the answer that it has when asked alone."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from superlink.workflows.data.scene_tasks.questions import KINDS, asked
from superlink.workflows.data.scene_tasks.quizzes import FEWEST, MOST, quiz
from superlink.workflows.data.scene_tasks.world import OnlyScene, World
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ShapesMix, ShapesSamples


def test_every_question_is_asked_once_and_the_picture_is_shown_once() -> None:
    samples = ShapesSamples(40, mix=ShapesMix.only("quiz"), scenes=SceneConfig(height=96, width=96))
    counts = []
    for index in range(40):
        conversation = samples[index].conversation
        questions = [one.text for one in conversation[::2]]
        assert len(questions) == len(set(questions))
        assert [len(one.images) for one in conversation[::2]] == [1] + [0] * (len(questions) - 1)
        assert all(one.role == "assistant" and one.text for one in conversation[1::2])
        counts.append(len(questions))
    assert min(counts) >= 1
    assert max(counts) <= MOST + 1  # and a caption
    assert sum(counts) / len(counts) > FEWEST


def test_answers_of_the_only_scene_are_those_that_its_objects_give() -> None:
    """Colours and shapes that are told of are there, and numbers are not above the number of objects."""
    said: Counter[str] = Counter()
    for seed in range(30):
        rng = Random(seed)
        world = World(seed=seed, config=SceneConfig(height=96, width=96), is_only=True)
        for kind in KINDS:
            try:
                found = asked(rng, "train", world, kind)
            except OnlyScene:
                continue
            if found is None:
                continue
            assert found.world is world
            word = found.reply.rstrip(".").split()[-1]
            objects = world.scene.objects
            if kind == "color":
                assert word in {one.color for one in objects}
            if kind == "shape":
                assert word in {one.shape for one in objects}
            said[kind] += 1
    assert set(said) == set(KINDS)


def test_a_world_of_one_scene_offers_no_other() -> None:
    world = World(seed=1, config=SceneConfig(), is_only=True)
    with pytest.raises(OnlyScene):
        world.another(Random(0))


def test_the_same_seed_asks_the_same() -> None:
    def told() -> list[str]:
        world = World(seed=5, config=SceneConfig(height=96, width=96))
        sample = quiz(Random(2), "train", world)
        assert sample is not None
        return [one.text for one in sample.conversation]

    assert told() == told()
