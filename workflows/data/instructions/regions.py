"""Instructions about what a person has clicked on or painted: the answer says `region1`."""

from __future__ import annotations

from random import Random

from superlink.workflows.data.instructions.grammar import Split, draw, word_list
from superlink.workflows.data.instructions.phrases import Phrase, joined
from superlink.workflows.data.instructions.tasks import (
    Instruction,
    PhraseSource,
    Request,
    dressed,
    fill,
    finished,
)


def region_instruction(
    rng: Random,
    split: Split,
    source: PhraseSource,
    count: int,
    *,
    spoken: bool = True,
    masked: bool | None = None,
) -> Instruction | None:
    """An instruction about the `count` regions of this message.

    Args:
        spoken: regions may be meant without their names ("this"); else it says "region1".
        masked: ask for masks, or for boxes; either by default.
    """
    names = [f"region{k}" for k in range(1, count + 1)]
    if masked is None:
        masked = rng.random() < 0.6
    section = f"{'masked' if masked else 'found'} {'one' if count == 1 else 'several'}"
    template = draw(rng, "region", split, section)
    if not spoken and "{k:" not in template.source:  # it would say nothing of which region it means
        return None
    skeleton = dressed(rng, template, split)
    said = joined(rng, names)
    if spoken and rng.random() < 0.7:
        said = rng.choice(word_list("this" if count == 1 else "these"))
    skeleton = skeleton.replace("{k:this}", said).replace("{k:these}", said)
    filled = fill(rng, skeleton, source, False)
    if filled is None:
        return None
    text, others = filled
    token = "[SEG]" if masked else "[DET]"
    requests = tuple(Request(token=token, phrase=Phrase(noun=name)) for name in names)
    return Instruction(text=finished(rng, text, split), requests=requests + others, task="region")
