"""Phrases without a scene: every shape, colour, size and place, common nouns, made-up words."""

from __future__ import annotations

from functools import cache
from random import Random

from superlink.workflows.data.instructions.grammar import lines
from superlink.workflows.data.instructions.phrases import Meaning, Phrase
from superlink.workflows.data.instructions.words import (
    COLORS,
    GENERIC,
    HALVES,
    PLACES,
    PLAIN_SHAPES,
    SHAPES,
    SIZES,
    SUPERLATIVES,
)

ATTRIBUTES = (
    "old", "new", "young", "striped", "wooden", "metal", "plastic", "broken", "shiny", "dark", "light", "bright",
    "round", "flat", "tall", "short", "long", "thin", "thick", "empty", "full", "open", "closed", "dirty", "clean",
    "wet", "dry", "parked", "sleeping", "running", "flying", "sitting", "standing", "spotted", "golden", "silver",
    "beige", "dark blue", "light blue", "dark green", "light green", "magenta", "navy", "teal", "maroon", "olive",
    "filled", "hollow", "dashed", "solid", "blurry", "rotated", "tilted", "fluffy", "rusty", "folded", "cute",
)  # fmt: skip
RELATIONS = (
    "with the hat", "with a red hat", "in the red shirt", "in the blue coat", "wearing glasses", "with long hair",
    "next to the car", "beside the tree", "behind the fence", "in front of the house", "under the table",
    "on the table", "near the window", "by the door", "holding an umbrella", "holding a phone", "on the bench",
    "in the background", "in the foreground", "next to the star", "above the circle", "below the square",
    "under the red star", "over the heart", "left of the star", "right of the circle", "to the left of the dog",
    "to the right of the blue square", "inside the ring", "between the trees", "in the second row",
    "with the broken handle", "closest to the camera", "that is sleeping", "that is running", "facing left",
    "facing the camera", "on the roof", "in the water", "at the end of the road", "touching the triangle",
    "with a black stripe", "with four legs", "second from the left", "third from the right", "in the red car",
)  # fmt: skip
AREAS = (
    "in the background", "in the foreground", "on the table", "near the window", "on the road", "in the sky",
    "on the floor", "in the water", "on the left", "on the right", "at the top", "at the bottom", "on the wall",
)  # fmt: skip


@cache
def nouns() -> tuple[str, ...]:
    """Common nouns outside the shapes world."""
    return tuple(word.strip() for line in lines("nouns") for word in line.split(","))


def invented(rng: Random) -> str:
    """A word that means nothing: "brafto"."""
    syllables = rng.randrange(2, 4)
    word = "".join(
        rng.choice("b c d f g h k l m n p r t v w z br dr fl gr kr pl sn st tr th".split())
        + rng.choice(("a", "e", "i", "o", "u", "oo", "ee", "ai"))
        for _ in range(syllables)
    )
    return word + rng.choice(("", "", "b", "d", "g", "k", "l", "m", "n", "p", "r", "t"))


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
    elif kind > 0.86:
        noun, size = rng.choice(GENERIC), ""
    half = rng.choice(tuple(HALVES)) if halves and rng.random() < 0.06 else ""
    after = rng.choice(HALVES[half]) if half else ""
    return described(noun, color=color, size=size, half=half, after=after)


def described(noun: str, *, color: str = "", size: str = "", half: str = "", after: str = "") -> Phrase:
    """A phrase of shape words together with what it selects."""
    return Phrase(
        noun=noun,
        before=tuple(word for word in (size, color) if word),
        after=after,
        color=color,
        meaning=Meaning(
            shape=SHAPES.get(noun),
            color=COLORS[color] if color else None,
            size=SIZES[size] if size else None,
            half=half or None,
        ),
    )


def singled_out(rng: Random, phrase: Phrase, superlative: str) -> Phrase:
    """One object of a class: "leftmost red circle" or "red circle in the top left corner"."""
    word, after = "", ""
    if PLACES[superlative] and rng.random() < 0.4:
        after = rng.choice(PLACES[superlative])
    else:
        word = rng.choice(SUPERLATIVES[superlative])
    meaning = phrase.meaning or Meaning()
    return Phrase(
        noun=phrase.noun,
        before=tuple(part for part in (word, *phrase.before) if part),
        after=after,
        color=phrase.color,
        superlative=word if superlative in ("left", "right", "top", "bottom", "largest", "smallest") else "",
        is_one=True,
        meaning=None
        if phrase.meaning is None
        else Meaning(shape=meaning.shape, color=meaning.color, superlative=superlative),
    )


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
        before = (rng.choice(ATTRIBUTES),)
    elif kind < 0.48:
        color = rng.choice(tuple(COLORS))
        before = (rng.choice(ATTRIBUTES), color)
    elif kind < 0.52:
        before = (rng.choice(tuple(SIZES)),)
    elif kind < 0.55:
        before = (invented(rng),)
    after = rng.choice(AREAS) if rng.random() < 0.05 else ""
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
        if rng.random() < self.open_share:
            phrase = open_phrase(rng)
            if rng.random() < 0.55:
                return Phrase(
                    noun=phrase.noun, before=phrase.before, after=rng.choice(RELATIONS), is_one=True
                )
            return singled_out(
                rng, Phrase(noun=phrase.noun, before=phrase.before), rng.choice(tuple(SUPERLATIVES))
            )
        phrase = shape_phrase(rng, halves=False)
        if rng.random() < 0.2:
            phrase = Phrase(noun=phrase.noun, before=phrase.before, after=rng.choice(RELATIONS), is_one=True)
            return phrase
        return singled_out(rng, phrase, rng.choice(tuple(SUPERLATIVES)))

    def one_of(self, rng: Random, phrase: Phrase) -> tuple[Phrase, str]:
        """One object of a class by any superlative."""
        superlative = rng.choice(tuple(SUPERLATIVES))
        return singled_out(rng, phrase, superlative), superlative


def sibling(rng: Random, phrase: Phrase) -> Phrase:
    """Another class that shares the noun or the colour: hard to tell apart, natural to ask for."""
    color = rng.choice(tuple(COLORS))
    if phrase.meaning is None:
        return Phrase(noun=phrase.noun, before=(color,), color=color)
    if phrase.color and rng.random() < 0.3:
        return described(shape_noun(rng), color=phrase.color)
    return described(phrase.noun, color=color)
