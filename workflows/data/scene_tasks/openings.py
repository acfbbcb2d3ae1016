"""First rounds of conversations: something is found, marked, described, asked about or counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split, word_list
from superlink.workflows.data.instructions.phrases import Phrase, described, listed
from superlink.workflows.data.instructions.regions import region_instruction
from superlink.workflows.data.instructions.tasks import Instruction, PhraseSource, instruction
from superlink.workflows.data.instructions.words import article
from superlink.workflows.data.scene_phrases import said_color, selected
from superlink.workflows.data.scene_tasks.answers import COUNTED
from superlink.workflows.data.scene_tasks.captions import caption, kinds
from superlink.workflows.data.scene_tasks.prompts import prompt_for
from superlink.workflows.data.scene_tasks.referents import referent
from superlink.workflows.data.scene_tasks.talk import Round, Talk, asked
from superlink.workflows.data.shapes import SceneObject

Opening = Callable[[Random, Split, Talk], Round | None]

_TRIES = 20
_ABSENT = 0.1  # share of openings that find nothing
_LONE = 0.5  # share of classes with a single object that are taken


class _Only:
    """A source of one phrase."""

    def __init__(self, phrase: Phrase) -> None:
        self._phrase = phrase

    def classes(self, rng: Random, count: int) -> list[Phrase]:
        return [self._phrase]

    def one(self, rng: Random) -> Phrase | None:
        return None

    def one_of(self, rng: Random, phrases: Sequence[Phrase]) -> tuple[Phrase, str] | None:
        return None


def finding(rng: Random, split: Split, talk: Talk) -> Round | None:
    """One class, or one object, in boxes or masks."""
    may_lack = rng.random() < _ABSENT
    takes_lone = rng.random() < _LONE
    for _ in range(_TRIES):
        task = rng.choices(("detect", "segment", "ground"), (60, 25, 15))[0]
        found = _found(rng, split, talk, task, talk.source)
        if found is None:
            continue
        items = found.talk.focus.items if found.talk.focus else ()
        if may_lack == (not items) and (takes_lone or task == "ground" or len(items) != 1):
            return found
    return None


def finding_people(rng: Random, split: Split, talk: Talk) -> Round | None:
    """Everybody, or people of one colour."""
    people = talk.scene.select(shape="person")
    if not people:
        return None
    phrase = described(rng.choice(("person", "person", "man", "human", "figure")))
    if rng.random() < 0.3:
        phrase = described(phrase.noun, color=said_color(rng, rng.choice(people).color))
    tried = (_found(rng, split, talk, "detect", _Only(phrase)) for _ in range(_TRIES))
    return next((found for found in tried if found is not None), None)


def _found(rng: Random, split: Split, talk: Talk, task: str, source: PhraseSource) -> Round | None:
    found: Instruction | None = instruction(rng, task, split, source)
    if found is None or len(found.requests) != 1:
        return None
    ((token, phrase),) = [(one.token, one.phrase) for one in found.requests]
    items = None if phrase.meaning is None else selected(talk.scene, phrase.meaning)
    if items is None or (phrase.is_one and len(items) != 1):
        return None
    return Round(
        kind="segment" if token == "[SEG]" else "find",
        text=found.text,
        reply=answer(found.routed),
        seen=talk.scene,
        talk=talk.about(phrase, items, token=token),
        targets=(talk.target(token, phrase, items),),
    )


def marking(rng: Random, split: Split, talk: Talk) -> Round | None:
    """A click, and what is there; or its outline."""
    item = rng.choice(talk.scene.objects)
    if rng.random() < 0.6:
        return named_mark(rng, split, talk, item)
    found = region_instruction(rng, split, talk.source, 1)
    if found is None or len(found.requests) != 1:
        return None
    ((token, phrase),) = [(one.token, replace(one.phrase, is_one=True)) for one in found.requests]
    return Round(
        kind="segment" if token == "[SEG]" else "find",
        text=found.text,
        reply=answer(found.routed),
        seen=talk.scene,
        talk=talk.about(phrase, [item], token=token, marks=1),
        targets=(talk.target(token, phrase, [item]),),
        prompts=(prompt_for(rng, item),),
    )


def named_mark(rng: Random, split: Split, talk: Talk, item: SceneObject) -> Round | None:
    """What an object is that is marked in this round."""
    slots = {"this": rng.choice(word_list("this"))}
    text = asked(rng, split, "about_region", "named one", slots)
    if text is None:
        return None
    number = talk.marks + 1
    phrase = Phrase(noun=f"region{number}", is_one=True)
    return Round(
        kind="mark",
        text=text,
        reply=f"It is {article(item.color)} {item.color} {item.shape}.",
        seen=talk.scene,
        talk=talk.about(phrase, [item], token="", marks=number, color=item.color),
        prompts=(prompt_for(rng, item),),
    )


def telling(rng: Random, split: Split, talk: Talk) -> Round | None:
    """Everything in the picture, named with its numbers."""
    world = talk.world
    sample = caption(rng, split, world)
    question, reply = sample.conversation
    return Round(
        kind="caption",
        text=question.text,
        reply=reply.text,
        seen=talk.scene,
        talk=replace(talk, named=kinds(talk.scene)),
    )


def asking(rng: Random, split: Split, talk: Talk) -> Round | None:
    """The colour or the shape of one object."""
    item = rng.choice(talk.scene.objects)
    is_color = rng.random() < 0.6
    thing = referent(rng, talk.source, item, color=not is_color, shape=is_color)
    if thing is None:
        return None
    kind = "color" if is_color else "shape"
    text = asked(rng, split, "vqa", kind, {"it": listed(rng, [thing], "it")})
    if text is None:
        return None
    after = talk.about(thing, [item], token="")
    return Round(
        kind="color" if is_color else "what",
        text=text,
        reply=f"It is {item.color}." if is_color else f"It is a {item.shape}.",
        seen=talk.scene,
        talk=replace(after, color=item.color) if is_color else after,
    )


def counting(rng: Random, split: Split, talk: Talk) -> Round | None:
    """The number of a class."""
    (phrase,) = talk.source.classes(rng, 1)
    items = None if phrase.meaning is None else selected(talk.scene, phrase.meaning)
    if not items:
        return None
    forms = {form: listed(rng, [phrase], form) for form in ("many", "the", "a", "name")}
    text = asked(rng, split, "vqa", "count", forms)
    if text is None:
        return None
    return Round(
        kind="count",
        text=text,
        reply=f"I count {COUNTED[len(items)]}.",
        seen=talk.scene,
        talk=talk.about(phrase, items, token=""),
    )


# How often each is drawn.
OPENINGS: dict[str, tuple[Opening, float]] = {
    "finding": (finding, 40),
    "finding people": (finding_people, 14),
    "marking": (marking, 16),
    "telling": (telling, 12),
    "asking": (asking, 9),
    "counting": (counting, 9),
}
