"""Phrases without a scene: every shape, colour, size and place, common nouns, made-up words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

from superlink.workflows.data.instructions.grammar import lines, word_list
from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.words import (
    COLORS,
    GENERIC,
    HALVES,
    PLACES,
    PLAIN_SHAPES,
    SHAPES,
    SIZES,
    SUPERLATIVES,
    invented,
)


@cache
def nouns() -> tuple[str, ...]:
    """Common nouns outside the shapes world."""
    return tuple(word.strip() for line in lines("nouns") for word in line.split(","))


def shape_noun(rng: Random) -> str:
    """A word for a shape: the plain one most often."""
    return rng.choice(PLAIN_SHAPES) if rng.random() < 0.7 else rng.choice(tuple(SHAPES))


def shape_phrase(rng: Random, *, halves: bool = True) -> Phrase:
    """A class of shapes: colour and shape most often, with or without size, half, generic noun."""
    kind = rng.random()
    color = rng.choice(tuple(COLORS)) if kind < 0.62 or kind > 0.88 else ""
    size = rng.choice(tuple(SIZES)) if rng.random() < 0.12 else ""
    noun = shape_noun(rng)
    if kind > 0.88:
        noun = rng.choice(GENERIC)
    elif kind > 0.83:  # "all objects", "everything" are among the first things that people ask for
        noun, size = rng.choice(GENERIC), ""
    if rng.random() < 0.08:
        return unusual_phrase(rng, noun)
    half = rng.choice(tuple(HALVES)) if halves and rng.random() < 0.06 else ""
    after = rng.choice(HALVES[half]) if half else ""
    return described(noun, color=color, size=size, half=half, after=after)


def unusual_phrase(rng: Random, noun: str) -> Phrase:
    """A shape described in words that the shapes world does not settle: "dark green circle"."""
    before: tuple[str, ...] = ()
    after = ""
    kind = rng.random()
    if kind < 0.3:
        before = (f"{rng.choice(word_list('shades'))} {rng.choice(tuple(COLORS))}",)
    elif kind < 0.5:
        before = (rng.choice(word_list("other colours")),)
    elif kind < 0.75:
        before = (rng.choice(word_list("attributes")),)
    else:
        after = rng.choice(word_list("plural relations"))
    return Phrase(noun=noun, before=before, after=after)


def singled_out(rng: Random, phrase: Phrase, superlative: str) -> Phrase:
    """One object of a class: "leftmost red circle" or "red circle in the top left corner"."""
    word, after = "", phrase.after
    if PLACES[superlative] and not after and rng.random() < 0.4:
        after = rng.choice(PLACES[superlative])
    else:
        word = rng.choice(SUPERLATIVES[superlative])
    meaning = phrase.meaning
    return Phrase(
        noun=phrase.noun,
        before=tuple(part for part in (word, *phrase.before) if part),
        after=after,
        color=phrase.color,
        superlative=word,
        is_one=True,
        meaning=None if meaning is None else replace(meaning, superlative=superlative),
    )


def _counted_off(rng: Random, phrase: Phrase) -> Phrase:
    """One object of a class by counting, or by size and place: "second star from the left"."""
    if rng.random() < 0.6:
        word, after = rng.choice(word_list("ordinals")), rng.choice(word_list("from"))
    else:
        word = rng.choice(SUPERLATIVES[rng.choice(("largest", "smallest"))])
        after = rng.choice(word_list("corners"))
    before = (word, *phrase.before)
    return replace(phrase, before=before, after=after, superlative=word, is_one=True, meaning=None)


def open_phrase(rng: Random) -> Phrase:
    """A class of anything: "blue car", "traffic light", "brafto"."""
    noun = rng.choice(nouns()) if rng.random() < 0.85 else invented(rng)
    before: tuple[str, ...] = ()
    color = ""
    kind = rng.random()
    if kind < 0.3:
        color = rng.choice(tuple(COLORS))
        before = (color,)
    elif kind < 0.42:
        before = (rng.choice(word_list("attributes")),)
    elif kind < 0.48:
        color = rng.choice(tuple(COLORS))
        before = (rng.choice(word_list("attributes")), color)
    elif kind < 0.52:
        before = (rng.choice(tuple(SIZES)),)
    elif kind < 0.55:
        before = (invented(rng),)
    after = rng.choice(word_list("areas")) if rng.random() < 0.05 else ""
    return Phrase(noun=noun, before=before, after=after, color=color)


class Vocabulary:
    """Phrases drawn from the words alone.

    Args:
        open_share: share of instructions about things outside the shapes world.
    """

    def __init__(self, open_share: float = 0.3) -> None:
        self.open_share = open_share

    def classes(self, rng: Random, count: int) -> list[Phrase]:
        """`count` different phrases, all of shapes or all of anything, mixed now and then."""
        world = rng.random()
        share = self.open_share
        is_open = 0.9 if world < share * 0.8 else 0.5 if world < share else 0.0
        found: dict[str, Phrase] = {}
        while len(found) < count:
            if found and rng.random() < 0.25:
                phrase = sibling(rng, rng.choice(list(found.values())))
            elif rng.random() < is_open:
                phrase = open_phrase(rng)
            else:
                phrase = shape_phrase(rng)
            found.setdefault(phrase.name, phrase)
        phrases = list(found.values())
        rng.shuffle(phrases)
        return phrases

    def one(self, rng: Random) -> Phrase:
        """One object by superlative, place, or (outside the shapes world) relation."""
        is_open = rng.random() < self.open_share
        phrase = open_phrase(rng) if is_open else shape_phrase(rng, halves=False)
        phrase = replace(phrase, after="")
        kind = rng.random()
        if kind < (0.5 if is_open else 0.15):
            return replace(phrase, after=rng.choice(word_list("relations")), is_one=True, meaning=None)
        if kind < (0.65 if is_open else 0.25):
            word = rng.choice(word_list("ranked"))
            return replace(phrase, before=(word, *phrase.before), superlative=word, is_one=True, meaning=None)
        if kind < (0.75 if is_open else 0.37):
            return _counted_off(rng, phrase)
        return singled_out(rng, phrase, rng.choice(tuple(SUPERLATIVES)))

    def one_of(self, rng: Random, phrases: Sequence[Phrase]) -> tuple[Phrase, str]:
        """One object of some classes by any superlative."""
        superlative = rng.choice(tuple(SUPERLATIVES))
        phrase = phrases[0] if len(phrases) == 1 else described("object")
        return singled_out(rng, phrase, superlative), superlative


def sibling(rng: Random, phrase: Phrase) -> Phrase:
    """Another class that shares the noun or the colour: hard to tell apart, natural to ask for."""
    color = rng.choice(tuple(COLORS))
    if phrase.meaning is None:
        return Phrase(noun=phrase.noun, before=(color,), color=color)
    if phrase.color and rng.random() < 0.3:
        return described(shape_noun(rng), color=phrase.color)
    return described(phrase.noun, color=color)
