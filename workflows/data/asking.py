"""Instructions for phrases that are given: the wording of the world's templates for real data."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

from superlink.router.errors import DataError
from superlink.workflows.data.instructions.grammar import SLOT, Split, draw
from superlink.workflows.data.instructions.phrases import Phrase, listed
from superlink.workflows.data.instructions.tasks import dressed, finished

Task = Literal["detect", "segment", "ground"]

TOKENS: dict[Task, str] = {"detect": "[DET]", "segment": "[SEG]", "ground": "[GRD]"}
# Forms of a slot that say the words of every phrase; others leave the noun to be guessed.
_SPOKEN = frozenset(("all", "many", "the", "a", "it", "name", "each"))
_TRIES = 200


def asking(rng: Random, task: Task, split: Split, phrases: Sequence[Phrase]) -> str:
    """A random instruction that asks for all of `phrases` in this order.

    Args:
        rng: what the wording is drawn from.
        task: what to ask for; a [SEG] of one particular object is the "segment" of its phrase.
        split: of the templates.
        phrases: at least one; either all classes, or one that `is_one`.

    Raises:
        DataError: no template of the task can take these phrases.
    """
    slot = "g" if task == "ground" else "d" if task == "detect" else "r" if phrases[0].is_one else "s"
    for _ in range(_TRIES):
        skeleton = dressed(rng, draw(rng, task, split), split)
        slots = list(SLOT.finditer(skeleton))
        if len(slots) != 1:
            continue
        group, form, one_class = slots[0].groups()
        if group != slot or form not in _SPOKEN or (one_class and len(phrases) > 1):
            continue
        text = skeleton[: slots[0].start()] + listed(rng, phrases, form) + skeleton[slots[0].end() :]
        return finished(rng, text, split)
    raise DataError(f"no template for {task!r} takes {len(phrases)} phrases")
