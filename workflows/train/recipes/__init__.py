"""Recipes: functions that return a whole run. `superlink train NAME` calls them.

A variant is a `dataclasses.replace` of one of these.
"""

from __future__ import annotations

from collections.abc import Callable

from superlink.workflows.train.config import TrainConfig
from superlink.workflows.train.recipes.answers import shapes_answers
from superlink.workflows.train.recipes.decoders import smoke_detector, tiny_detector
from superlink.workflows.train.recipes.family import shapes_family, shapes_family_smoke
from superlink.workflows.train.recipes.router import shapes_system, shapes_tokenizer
from superlink.workflows.train.recipes.sentences import shapes_sentences
from superlink.workflows.train.recipes.sources import (
    ENDLESS,
    GLANCING,
    SEEING,
    SPEAKING,
    classes,
    glances,
    held_out,
    pictures,
    words,
)
from superlink.workflows.train.recipes.tiny import BACKBONE, shapes_smoke, shapes_tiny

__all__ = [
    "BACKBONE",
    "ENDLESS",
    "GLANCING",
    "GROWING",
    "RECIPES",
    "SEEING",
    "SPEAKING",
    "classes",
    "glances",
    "held_out",
    "pictures",
    "shapes_answers",
    "shapes_family",
    "shapes_family_smoke",
    "shapes_sentences",
    "shapes_smoke",
    "shapes_system",
    "shapes_tiny",
    "shapes_tokenizer",
    "smoke_detector",
    "tiny_detector",
    "words",
]

# Recipes that go on from a model, `tiny` unless another one is given.
GROWING: dict[str, Callable[..., TrainConfig]] = {
    "shapes-family": shapes_family,
    "shapes-family-smoke": shapes_family_smoke,
    "shapes-sentences": shapes_sentences,
    "shapes-answers": shapes_answers,
}
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "shapes-tiny": shapes_tiny,
    "shapes-smoke": shapes_smoke,
    **GROWING,
}
