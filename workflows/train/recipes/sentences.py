"""More sentences for the router of a whole family, whose decoders stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from superlink.agents.embedded import model_folder
from superlink.workflows.data.shapes_samples import ShapesMix
from superlink.workflows.train.config import Stage, TrainConfig
from superlink.workflows.train.kept_links import KEPT_LINKS
from superlink.workflows.train.recipes.family import SPEAKING, shapes_family
from superlink.workflows.train.recipes.sources import GLANCING_ALL, LISTING_ALL, glances, words
from superlink.workflows.train.systems import SavedSystem

DRAWN, GLANCES, QUIZZES = 416, 16, 6  # rows of a step
LEARNED = 88  # of those drawn: small batches taught the router other things and cost it words


def shapes_sentences(start: str | Path = "tiny") -> TrainConfig:
    """The router of a family alone: many more sentences, the hardest ones learned, with its links held.

    Args:
        start: an embedded model by its name, or a model folder.
    """
    family = shapes_family(start)
    quizzes = replace(glances(224, float(QUIZZES), mix=ShapesMix.only("quiz")), name="quizzes-224")
    # 7 s of two cores: 1.6 hours.
    stage = Stage(
        name="sentences",
        steps=820,
        mixture=(
            glances(224, float(GLANCES), mix=GLANCING_ALL),
            words(float(DRAWN), mix=LISTING_ALL),
            quizzes,
        ),
        lr=1e-3,
        warmup=40,
        floor=0.02,
        global_batch=DRAWN + GLANCES + QUIZZES,
        micro_batch=8,
        hardest=LEARNED / DRAWN,
        trainable=SPEAKING,
    )
    return replace(
        family,
        name="shapes-sentences",
        system=SavedSystem(folder=model_folder(start).absolute(), name="tiny", dtype="fp16"),
        stages=(stage,),
        workers=2,
        average=None,
        loss_weights={KEPT_LINKS: 1.0},
        kept_links_share=0.25,
        validation=(),
    )
