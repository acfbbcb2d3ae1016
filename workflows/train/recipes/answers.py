"""Questions and captions for the router of a whole family, whose decoders stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from superlink.agents.embedded import model_folder
from superlink.workflows.data.shapes_samples import ShapesMix
from superlink.workflows.train.config import Stage, TrainConfig
from superlink.workflows.train.kept_links import KEPT_LINKS
from superlink.workflows.train.looks import (
    ANSWER_LOOKS,
    ANSWER_READS,
    PHRASE_COUNTS,
    PHRASE_LOOKS,
    PHRASE_NAMES,
)
from superlink.workflows.train.recipes.family import SPEAKING, shapes_family
from superlink.workflows.train.recipes.sources import GLANCING_ALL, LISTING_ALL, glances, words
from superlink.workflows.train.systems import SavedSystem

QUIZZES, CAPTIONS, GLANCES, BARE, BEHIND = 20, 14, 6, 8, 160  # rows of a step
# Of the words, bare or behind a picture, the hardest. Bare ones alone left it answering in words wherever
# there was a picture: 0.953 of 340 orders were understood with one and 0.988 without.
LEARNED = 54
LOOKING = {
    PHRASE_LOOKS: 0.2,
    PHRASE_COUNTS: 0.1,
    PHRASE_NAMES: 0.1,
    ANSWER_READS: 0.4,
    ANSWER_LOOKS: 0.2,
}


def shapes_answers(start: str | Path = "tiny") -> TrainConfig:
    """The router of a family alone: where to look for answers, with its links held.

    Args:
        start: an embedded model by its name, or a model folder.
    """
    quizzes = glances(224, float(QUIZZES), mix=ShapesMix.only("quiz"))
    captions = glances(224, float(CAPTIONS), mix=ShapesMix.only("caption"))
    # 8 s of two cores, reckoned from runs of like steps: 4.4 hours.
    stage = Stage(
        name="answers",
        steps=2000,
        mixture=(
            replace(quizzes, name="quizzes-224"),
            replace(captions, name="captions-224"),
            glances(224, float(GLANCES), mix=GLANCING_ALL),
            words(float(BARE), mix=LISTING_ALL),
            words(float(BEHIND), mix=LISTING_ALL, side=224),
        ),
        lr=1.2e-3,
        warmup=40,
        floor=0.02,
        global_batch=QUIZZES + CAPTIONS + GLANCES + BARE + BEHIND,
        micro_batch=8,
        hardest=LEARNED / (BARE + BEHIND),
        trainable=SPEAKING,
    )
    return replace(
        shapes_family(start),
        name="shapes-answers",
        system=SavedSystem(folder=model_folder(start).absolute(), name="tiny", dtype="fp16"),
        stages=(stage,),
        workers=2,
        average=None,
        loss_weights={KEPT_LINKS: 1.0, **LOOKING},
        kept_links_share=0.25,
        validation=(),
    )
