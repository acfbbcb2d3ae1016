from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from superlink.workflows.data.shapes import Scene, SceneConfig
from superlink.workflows.data.shapes.edits import EDIT_KINDS, EditKind, sample_edit
from superlink.workflows.data.shapes.language import NUMBERS, QUESTION_KINDS, ask, caption, plural

CLEAN = SceneConfig(effects=0)


def test_captions_name_every_object_once() -> None:
    for seed in range(60):
        scene = Scene.generate(seed)
        text = caption(scene, np.random.default_rng(seed)).lower()
        named = 0
        for color, shape in {(item.color, item.shape) for item in scene.objects}:
            (number,) = re.findall(rf"(\w+) {color} (?:{shape}|{plural(shape)})\b", text)
            named += 1 if number in ("a", "an") else NUMBERS.index(number)
        assert named == len(scene.objects)


def test_yes_and_no_are_equally_frequent_and_right() -> None:
    answers: Counter[str] = Counter()
    for seed in range(200):
        scene = Scene.generate(seed)
        question = ask(scene, np.random.default_rng(seed), "exist")
        assert question is not None
        words = question.question.rstrip("?").split()
        present = any(item.color in words and item.shape in words for item in scene.objects)
        assert (question.answer == "yes") == present
        answers[question.answer] += 1
    assert 0.4 < answers["yes"] / 200 < 0.6


def test_counts_are_right() -> None:
    for seed in range(80):
        scene = Scene.generate(seed)
        question = ask(scene, np.random.default_rng(seed), "count")
        assert question is not None
        text = question.question
        colors = [item.color for item in scene.objects if f"{item.color} objects" in text]
        shapes = [item.shape for item in scene.objects if plural(item.shape) in text]
        counted = colors or shapes or [item.shape for item in scene.objects]
        assert question.answer == NUMBERS[len(counted)]


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_questions_can_be_asked_of_most_scenes(kind: str) -> None:
    asked = [ask(Scene.generate(seed), np.random.default_rng(seed), kind) for seed in range(60)]
    assert sum(question is not None for question in asked) > 35


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_changes_pixels_inside_its_region_only(kind: EditKind) -> None:
    found = 0
    for seed in range(40):
        edit = sample_edit(Scene.generate(seed, CLEAN), np.random.default_rng(seed), kind)
        if edit is None:
            continue
        found += 1
        changed = (edit.before.image() != edit.after.image()).any(axis=2)
        assert changed.any()
        assert not changed[~edit.region].any()
        assert len(edit.after.objects) - len(edit.before.objects) == {"add": 1, "remove": -1}.get(kind, 0)
    assert found > 25


def test_a_recolored_object_has_the_color_of_the_instruction() -> None:
    for seed in range(40):
        edit = sample_edit(Scene.generate(seed, CLEAN), np.random.default_rng(seed), "recolor")
        if edit is None:
            continue
        pairs = zip(edit.before.objects, edit.after.objects, strict=True)
        (changed,) = [(a, b) for a, b in pairs if a.figure != b.figure]
        assert f"{changed[0].color} {changed[0].shape} {changed[1].color}." in edit.instruction
        assert changed[0].box == changed[1].box
