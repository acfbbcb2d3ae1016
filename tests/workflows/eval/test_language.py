from __future__ import annotations

import numpy as np
import pytest

from superlink.workflows.data.scene_tasks.answers import objects_named
from superlink.workflows.data.shapes import Scene
from superlink.workflows.data.shapes.language import caption
from superlink.workflows.eval.language import answers, captions, is_exact, number_in


@pytest.mark.parametrize(
    ("reply", "truth", "right"),
    [
        ("Red.", "red", True),
        ("The red circle", "red circle", True),
        ("It is on the left.", "left", True),
        ("It's grey", "gray", True),
        ("Three stars", "3 stars", True),
        ("zero", "0", True),
        ("Yes, there is one.", "yes", True),
        ("no", "yes", False),
        ("Not at all, yes", "yes", False),
        ("red square", "red circle", False),
        ("red", "red circle", False),
        ("", "red", False),
    ],
)
def test_answers_are_compared_by_what_they_say(reply: str, truth: str, right: bool) -> None:
    assert is_exact(reply, truth) is right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("There are three circles.", 3),
        ("12", 12),
        ("No stars at all", 0),
        ("none", 0),
        ("Ten", 10),
        ("a few", None),
        ("", None),
    ],
)
def test_the_first_number_of_a_text_is_its_count(text: str, number: int | None) -> None:
    assert number_in(text) == number


def test_counts_are_scored_apart_from_exact_answers() -> None:
    metrics = answers(
        ["red", "I count four of them", "yes", "a star", "five"],
        ["red", "four", "no", "star", "six"],
        ["color", "count", "exist", "shape", "count"],
    )
    assert [(metric.name, metric.value, metric.count) for metric in metrics] == [
        ("exact match", pytest.approx(2 / 3), 3),
        ("color", 1.0, 1),
        ("exist", 0.0, 1),
        ("shape", 1.0, 1),
        ("counting", 0.5, 2),
    ]


def test_every_caption_of_the_world_names_every_object_of_its_scene() -> None:
    for seed in range(40):
        scene = Scene.generate(seed)
        named = objects_named(caption(scene, np.random.default_rng(seed)))
        assert sorted(named.elements()) == sorted((item.color, item.shape) for item in scene.objects)


def test_a_caption_is_full_when_it_names_every_object() -> None:
    truth = "Two red circles and a blue star on a white background."
    replies = ["A blue star and two red circles.", "A red circle, a blue star and a pink heart.", ""]
    metrics = captions(replies, [truth] * 3)
    assert [(metric.value, metric.count) for metric in metrics] == [
        (pytest.approx(1 / 3), 3),
        (pytest.approx(5 / 9), 9),
        (pytest.approx(5 / 6), 6),
    ]


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="2 replies do not pair with 1"):
        captions(["", ""], [""])
