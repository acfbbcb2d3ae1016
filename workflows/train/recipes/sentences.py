"""More sentences for the router of a whole family, whose decoders stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from superlink.agents.embedded import model_folder
from superlink.workflows.data.shapes_samples import ShapesMix
from superlink.workflows.train.config import Stage, TrainConfig
from superlink.workflows.train.kept_links import KEPT_LINKS
from superlink.workflows.train.recipes.family import SPEAKING, shapes_family
from superlink.workflows.train.recipes.sources import GLANCING_ALL, SPEAKING_ALL, glances, words
from superlink.workflows.train.systems import SavedSystem

ROWS = 124  # of a step: small batches with few words taught the router other things and cost it these


def shapes_sentences(start: str | Path = "tiny") -> TrainConfig:
    """The router of a family alone: many more sentences, with its links held for the decoders.

    Args:
        start: an embedded model by its name, or a model folder.
    """
    family = shapes_family(start)
    quizzes = replace(glances(224, 8.0, mix=ShapesMix.only("quiz")), name="quizzes-224")
    # 8 s of one core: 1.4 hours.
    stage = Stage(
        name="sentences",
        steps=650,
        mixture=(glances(224, 20.0, mix=GLANCING_ALL), words(96.0, mix=SPEAKING_ALL), quizzes),
        lr=1e-3,
        warmup=40,
        floor=0.02,
        global_batch=ROWS,
        micro_batch=8,
        trainable=SPEAKING,
    )
    return replace(
        family,
        name="shapes-sentences",
        system=SavedSystem(folder=model_folder(start).absolute(), name="tiny", dtype="fp16"),
        stages=(stage,),
        workers=1,
        average=None,
        loss_weights={KEPT_LINKS: 1.0},
        validation=(),
    )
