"""How often each task is drawn, and the texts that a tokenizer learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from superlink.router.messages import Conversation, Message
from superlink.workflows.data.instructions.answers import (
    NO_ANSWER,
    NO_PICTURES,
    NO_WORDS,
    NOTHING,
    answer,
    without_tags,
)
from superlink.workflows.data.instructions.dialogues import dialogue
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.regions import region_instruction
from superlink.workflows.data.instructions.tasks import Instruction, PhraseSource, instruction
from superlink.workflows.data.instructions.vocabulary import Vocabulary
from superlink.workflows.data.scene_tasks import SCENE_TASKS, World
from superlink.workflows.data.shapes import SceneConfig

_IN_WORDS = ("vqa", "caption", "grounded_caption", "region_caption", "recognition", "follow_up")
_MAKE_PICTURES = ("generate", "edit", "compose", "several", "follow_up")


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

    # Tasks of `scene_tasks`, under the same names.
    vqa: float = 0.0
    quiz: float = 0.0  # many questions about one scene
    caption: float = 0.0
    grounded_caption: float = 0.0
    region_caption: float = 0.0
    recognition: float = 0.0
    pose: float = 0.0
    generate: float = 0.0
    edit: float = 0.0
    compose: float = 0.0  # two decoders in one sentence
    several: float = 0.0  # orders of any kinds in one sentence
    in_context: float = 0.0
    interactive: float = 0.0
    follow_up: float = 0.0  # rounds of different tasks about one scene

    # Tasks of `scene_tasks` that the same model learns elsewhere: no reply of this mix refuses them.
    elsewhere: tuple[str, ...] = ()

    @classmethod
    def only(cls, task: str) -> ShapesMix:
        """One task alone, by the name of its weight."""
        others = ("open_share", "elsewhere")
        weights: dict[str, Any] = {field.name: 0.0 for field in fields(cls) if field.name not in others}
        return cls(**{**weights, task: 1.0})

    @property
    def scene_tasks(self) -> dict[str, float]:
        """Weights of those tasks of `scene_tasks` that are drawn at all."""
        return {name: weight for name in SCENE_TASKS if (weight := float(getattr(self, name)))}

    @property
    def unsaid(self) -> frozenset[str]:
        """Replies of chat that refuse what this mix teaches, or promise what it does not."""
        drawn = {*self.scene_tasks, *self.elsewhere}
        refused = {NO_WORDS: _IN_WORDS, NO_PICTURES: _MAKE_PICTURES}
        unsaid = {text for text, tasks in refused.items() if any(name in drawn for name in tasks)}
        return frozenset(unsaid if NO_WORDS in unsaid else {*unsaid, NO_ANSWER})

    def draw(self, rng: Random) -> str:
        """The name of a task: of `SCENE_TASKS`, or as `rounds` takes it."""
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
            **self.scene_tasks,
        }
        return rng.choices(list(weights), list(weights.values()))[0]


def rounds(
    rng: Random,
    task: str,
    split: Split,
    source: PhraseSource,
    *,
    many: bool = False,
    regions: int = 0,
    unsaid: frozenset[str] = frozenset(),
) -> list[Instruction] | None:
    """The rounds of one conversation, most often a single one; None where the source lacks a phrase.

    Args:
        many: favour two to five classes in an instruction.
        regions: number of visual prompts of the message, for task "region"; 0 = spell their names.
        unsaid: replies that no round may give; such rounds are None as well.
    """
    found: Instruction | None
    if task == "dialogue":
        turns = dialogue(rng, split, source, rng.choices((2, 3, 4), (50, 33, 17))[0])
        return None if any(turn.reply in unsaid for turn in turns) else turns
    if task == "region":
        count = regions or rng.choices((1, 2), (8, 2))[0]
        found = region_instruction(rng, split, source, count, spoken=regions > 0)
    else:
        found = instruction(rng, task, split, source, many)
    return None if found is None or found.reply in unsaid else [found]


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


def corpus(n: int, seed: int = 0, *, fold_case: bool = False, mix: ShapesMix | None = None) -> Iterator[str]:
    """`n` texts for a tokenizer: what people and the assistant write, without special tokens.

    Args:
        fold_case: questions as a router with `fold_case` reads them.
        mix: how often each task is drawn; without tasks of `scene_tasks` by default.
    """
    rng = Random(f"corpus:{seed}")
    mix = mix or ShapesMix()
    source = Vocabulary(2 * mix.open_share)  # rare words need pieces of their own
    for index in range(n):
        texts = None
        while texts is None:
            texts = _texts(rng, mix, source)
        asked, replied = texts
        asked = f" {asked.lower()}" if fold_case else asked
        yield asked if index % 4 else without_tags(replied)


def _texts(rng: Random, mix: ShapesMix, source: PhraseSource) -> tuple[str, str] | None:
    """The last question and its answer."""
    task = mix.draw(rng)
    if task in SCENE_TASKS:
        world = World(seed=rng.getrandbits(62), config=SceneConfig(), is_drawn=False)
        sample = SCENE_TASKS[task](rng, "train", world)
        return None if sample is None else (sample.conversation[-2].text, sample.conversation[-1].text)
    found = rounds(rng, task, "train", source, unsaid=mix.unsaid)
    return None if found is None else (found[-1].text, reply(found[-1]))
