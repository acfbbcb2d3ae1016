"""How often each task is drawn, and the texts that a tokenizer learns from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from superlink.workflows.data.instructions.answers import NOTHING, answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.tasks import Instruction, PhraseSource, instruction
from superlink.workflows.data.instructions.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapesMix:
    """Weights of the tasks; they need not sum to one."""

    detect: float = 0.30
    ground: float = 0.14
    segment: float = 0.20
    mixed: float = 0.12
    nothing: float = 0.06  # negation without anything left to find
    partial: float = 0.06  # negation of some classes
    chat: float = 0.12

    def draw(self, rng: Random) -> str:
        """The name of a task, as `tasks.instruction` takes it."""
        names = ("detect", "ground", "segment", "mixed", "negation/nothing", "negation/partial", "chat")
        weights = (
            self.detect, self.ground, self.segment, self.mixed, self.nothing, self.partial, self.chat
        )  # fmt: skip
        return rng.choices(names, weights)[0]


def any_instruction(rng: Random, mix: ShapesMix, split: Split, source: PhraseSource) -> Instruction:
    """An instruction of a random task; draws again where the source lacks a phrase for it."""
    while True:
        found = instruction(rng, mix.draw(rng), split, source)
        if found is not None:
            return found


def reply(found: Instruction) -> str:
    """The assistant's raw answer."""
    return answer(found.routed) if found.requests else found.reply or NOTHING


def corpus(n: int, seed: int = 0) -> Iterator[str]:
    """`n` texts for a tokenizer: what people and the assistant write, without special tokens."""
    rng = Random(f"corpus:{seed}")
    source = Vocabulary()
    mix = ShapesMix()
    for index in range(n):
        found = any_instruction(rng, mix, "train", source)
        if index % 4:
            yield found.text
            continue
        raw = reply(found)
        for tag in ("<det>", "</det>", "[DET]", "[GRD]", "[SEG]"):
            raw = raw.replace(tag, "")
        yield raw
