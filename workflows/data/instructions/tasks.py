"""Instructions: a template, phrases in its slots, a surface, and what it should route.

Slot groups: `d` classes → [DET], `s` classes → [SEG], `b` classes → both; `g` one object → [GRD],
`r` one object → [SEG]; `x` classes that are named but not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from superlink.workflows.data.instructions import surface
from superlink.workflows.data.instructions.answers import Routed
from superlink.workflows.data.instructions.grammar import SLOT, Split, Template, draw, tidy
from superlink.workflows.data.instructions.phrases import Phrase, described, listed
from superlink.workflows.data.instructions.synonyms import varied
from superlink.workflows.data.instructions.words import COLORS

TOKENS: dict[str, tuple[str, ...]] = {
    "d": ("[DET]",),
    "s": ("[SEG]",),
    "b": ("[DET]", "[SEG]"),
    "g": ("[GRD]",),
    "r": ("[SEG]",),
    "x": (),
}
_ONE_NAMED = 0.4  # of what is spoken of with "the" and not asked for
ONE_OBJECT = "gr"  # groups that name one object
NAMING = ("detect", "ground", "chat")  # no single word of these decides what is asked for


class PhraseSource(Protocol):
    """Where phrases come from: the vocabulary at large, or one scene."""

    def classes(self, rng: Random, count: int) -> list[Phrase]:
        """Up to `count` (at least one) different phrases for classes of objects."""
        ...

    def one(self, rng: Random) -> Phrase | None:
        """A phrase for one object, or None where none is unambiguous."""
        ...

    def one_of(self, rng: Random, phrases: Sequence[Phrase]) -> tuple[Phrase, str] | None:
        """One object of some classes, and by which superlative; None where none is unambiguous.

        Of several classes it is called an "object".
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for: the token and the phrase of every link, in reading order."""

    token: str
    phrase: Phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    text: str
    requests: tuple[Request, ...]
    task: str
    reply: str = ""  # the answer where nothing is asked for

    @property
    def routed(self) -> tuple[Routed, ...]:
        return tuple((request.token, request.phrase.name) for request in self.requests)


# Number of classes in one slot of a sentence that has only that slot, and of one that has more.
ALONE = ((1, 2, 3, 4, 5), (40, 30, 15, 9, 6))
AMONG = ((1, 2, 3), (72, 20, 8))


def instruction(
    rng: Random, task: str, split: Split, source: PhraseSource, many: bool = False
) -> Instruction | None:
    """A random instruction of one task; None where the source has no phrase for it.

    `many` favours two to five classes.
    """
    template = _template(rng, task, split)
    return filled(rng, template, task, split, source, many)


def _template(rng: Random, task: str, split: Split) -> Template:
    name, _, section = task.partition("/")
    return draw(rng, name, split, section or None)


def filled(
    rng: Random, template: Template, task: str, split: Split, source: PhraseSource, many: bool = False
) -> Instruction | None:
    """One template with phrases in its slots and a random surface."""
    is_chat = task == "chat"
    skeleton = dressed(rng, template, split)
    if split == "train" and task in NAMING:
        skeleton = surface.with_strange_word(rng, skeleton)
    slots = fill(rng, skeleton, source, many)
    if slots is None:
        return None
    text, requests = slots
    return Instruction(
        text=finished(rng, text, split, context=not is_chat),
        requests=requests,
        task=task.partition("/")[0],
        reply=template.section if is_chat else "",
    )


def dressed(rng: Random, template: Template, split: Split) -> str:
    """A template's text with politeness and slips of the keyboard; slots still open."""
    imperative = template.section == "imperative" or template.source.startswith(("<find>", "<segment>"))
    skeleton = tidy(template.body.sample(rng))
    if split == "train":
        skeleton = varied(rng, skeleton, template.file)
    skeleton = surface.wrapped(rng, skeleton, split, imperative=imperative)
    return surface.without_apostrophes(rng, surface.with_typo(rng, tidy(skeleton)))


def finished(rng: Random, text: str, split: Split, *, context: bool = True) -> str:
    """Punctuation, sentences around it, letter case."""
    text = surface.punctuated(rng, tidy(text))
    if context:
        text = surface.with_context(rng, text, split)
    return surface.cased(rng, text)


def fill(
    rng: Random, skeleton: str, source: PhraseSource, many: bool
) -> tuple[str, tuple[Request, ...]] | None:
    """The text with phrases in its slots, and what they ask for; None where a phrase lacks."""
    found = list(SLOT.finditer(skeleton))
    counts: list[int] = []
    for match in found:
        alone = len(found) == 1
        values, weights = ALONE if alone else AMONG
        if many and alone:
            weights = (8, 34, 28, 18, 12)
        count = rng.choices(values, weights)[0]
        if match[3] or match[2] in ("whole", "hued"):
            count = 1
        elif match[1] in ONE_OBJECT:
            count = 2 if match[1] == "g" and alone and match[2] == "the" and rng.random() < 0.08 else 1
        counts.append(count)
    needed = sum(count for match, count in zip(found, counts, strict=True) if match[1] not in ONE_OBJECT)
    pool = source.classes(rng, needed) if needed else []
    ones: list[Phrase] = []
    text, end = "", 0
    requests: list[Request] = []
    for match, count in zip(found, counts, strict=True):
        if match[1] in ONE_OBJECT:
            phrases: list[Phrase] = []
            for _ in range(count):
                phrase = source.one(rng) if match[2] != "bare" else _any_one(rng, source)
                if phrase is not None and phrase.name not in {other.name for other in ones}:
                    phrases.append(phrase)
                    ones.append(phrase)
        elif match[2] == "whole":
            phrases = [described("object")]
        elif match[2] == "hued":
            phrases, pool = [_hued(rng, like, requests) for like in pool[:1]], pool[1:]
        elif match[1] == "x" and match[2] in ("the", "it") and rng.random() < _ONE_NAMED:
            # "make the leftmost star bigger": one object may be spoken of without being asked for.
            phrases = [one for one in [source.one(rng)] if one is not None] or pool[:1]
            pool = pool[count:]
        else:
            phrases, pool = pool[:count], pool[count:]
        if not phrases:
            return None
        text += skeleton[end : match.start()] + listed(rng, phrases, match[2])
        end = match.end()
        for token in TOKENS[match[1]]:
            requests += [Request(token=token, phrase=phrase) for phrase in phrases]
    return text + skeleton[end:], tuple(requests)


def _hued(rng: Random, like: Phrase, said: Sequence[Request]) -> Phrase:
    """Everything of a phrase's colour; of another one, where it has none or that is asked for already."""
    colors = [color for color in (like.color, *rng.sample(tuple(COLORS), 3)) if color]
    phrases = [described("thing", color=color) for color in colors]
    before = {request.phrase for request in said}
    return next((phrase for phrase in phrases if phrase not in before), phrases[0])


def _any_one(rng: Random, source: PhraseSource) -> Phrase | None:
    """One of all objects: what "the largest one" means at the start of a conversation."""
    found = source.one_of(rng, [described("object")])
    return None if found is None else found[0]
