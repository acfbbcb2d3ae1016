"""How often each task is drawn, and the texts that a tokenizer learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from superlink.router.messages import Conversation, Message
from superlink.workflows.data.instructions.answers import NOTHING, answer, without_tags
from superlink.workflows.data.instructions.dialogues import dialogue
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.regions import region_instruction
from superlink.workflows.data.instructions.tasks import Instruction, PhraseSource, instruction
from superlink.workflows.data.instructions.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapesMix:
    """Weights of the tasks; they need not sum to one."""

    detect: float = 0.24
    ground: float = 0.12
    segment: float = 0.16
    mixed: float = 0.10
    nothing: float = 0.04  # negation without anything left to find
    partial: float = 0.05  # negation of some classes
    chat: float = 0.12
    region: float = 0.05
    dialogue: float = 0.12
    open_share: float = 0.2  # of the instructions that name something, about things not in the shapes world

    def draw(self, rng: Random) -> str:
        """The name of a task, as `tasks.instruction` takes it, or "region" or "dialogue"."""
        weights = {
            "detect": self.detect,
            "ground": self.ground,
            "segment": self.segment,
            "mixed": self.mixed,
            "negation/nothing": self.nothing,
            "negation/partial": self.partial,
            "chat": self.chat,
            "region": self.region,
            "dialogue": self.dialogue,
        }
        return rng.choices(list(weights), list(weights.values()))[0]


def rounds(
    rng: Random, task: str, split: Split, source: PhraseSource, *, many: bool = False, regions: int = 0
) -> list[Instruction] | None:
    """The rounds of one conversation, most often a single one; None where the source lacks a phrase.

    Args:
        many: favour two to five classes in an instruction.
        regions: number of visual prompts of the message, for task "region"; 0 = spell their names.
    """
    if task == "dialogue":
        return dialogue(rng, split, source, rng.choices((2, 3, 4), (50, 33, 17))[0])
    if task == "region":
        count = regions or rng.choices((1, 2), (8, 2))[0]
        found = region_instruction(rng, split, source, count, spoken=regions > 0)
    else:
        found = instruction(rng, task, split, source, many)
    return None if found is None else [found]


def reply(found: Instruction) -> str:
    """The assistant's raw answer."""
    return answer(found.routed) if found.requests else found.reply or NOTHING


def conversation(turns: Sequence[Instruction], first: Message | None = None) -> Conversation:
    """The messages of some rounds; `first` gives the first message its picture and prompts."""
    messages: list[Message] = []
    for turn in turns:
        user = Message(role="user", text=turn.text)
        if first is not None and not messages:
            user = replace(first, text=turn.text)
        messages += [user, Message(role="assistant", text=reply(turn))]
    return tuple(messages)


def corpus(n: int, seed: int = 0, *, fold_case: bool = False) -> Iterator[str]:
    """`n` texts for a tokenizer: what people and the assistant write, without special tokens.

    Args:
        fold_case: questions as a router with `fold_case` reads them.
    """
    rng = Random(f"corpus:{seed}")
    mix = ShapesMix()
    source = Vocabulary(2 * mix.open_share)  # rare words need pieces of their own
    for index in range(n):
        found = None
        while found is None:
            found = rounds(rng, mix.draw(rng), "train", source)
        asked = f" {found[-1].text.lower()}" if fold_case else found[-1].text
        yield asked if index % 4 else without_tags(reply(found[-1]))
