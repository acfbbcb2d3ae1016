"""Phrases: the words that a routing token stands for, and the ways a person says them.

A phrase is written in the answer as `Phrase.name`: the person's own words, head noun singular,
no article, no quantifier. `said_*` and `listed` give the many forms it takes in an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from superlink.workflows.data.instructions.words import COLORS, SHAPES, SIZES, article, plural


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a phrase selects in a shapes scene; None = anything."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    half: str | None = None  # "left": every such object in that half
    superlative: str | None = None  # "left", "largest", "top left": the one such object


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    noun: str  # singular head: "circle", "plus sign"
    before: tuple[str, ...] = ()  # adjectives in the order of the answer: ("leftmost", "red")
    after: str = ""  # "on the left"
    color: str = ""  # which of `before` can move behind the noun: "circles that are red"
    superlative: str = ""  # which of `before` singles out: "the leftmost of the circles"
    is_one: bool = False  # names one particular object: "leftmost circle"
    meaning: Meaning | None = None  # None for words that the shapes world does not draw

    @property
    def name(self) -> str:
        """As the answer writes it: "red circle", "circle on the left"."""
        return " ".join(word for word in (*self.before, self.noun, self.after) if word)

    def said_many(self, rng: Random) -> str:
        """Plural, without quantifier; now and then without its ending, as learners write."""
        if rng.random() < 0.02:
            return self._said(rng, self.noun, "are")
        return self._said(rng, plural(self.noun), "are")

    def said_one(self, rng: Random) -> str:
        """Singular, without article."""
        return self._said(rng, self.noun, "is")

    def _said(self, rng: Random, noun: str, verb: str) -> str:
        before = list(self.before)
        after = self.after
        if self.color and not after and rng.random() < 0.08:
            before.remove(self.color)
            after = rng.choice(
                (
                    f"that {verb} {self.color}",
                    f"which {verb} {self.color}",
                    f"in {self.color}",
                    f"coloured {self.color}",
                    f"painted {self.color}",
                    f"of {self.color} colour",
                    f"with a {self.color} color",
                )
            )
        elif self.color and rng.random() < 0.02:
            before[before.index(self.color)] += rng.choice(("-coloured", "-colored", " coloured", " colored"))
        return " ".join(word for word in (*before, noun, after) if word)

    def said_the(self, rng: Random) -> str:
        """One particular object: "the leftmost red circle", "the leftmost of the red circles"."""
        if self.superlative.endswith("st") and rng.random() < 0.15:
            rest = [word for word in self.before if word != self.superlative]
            nouns = " ".join((*rest, plural(self.noun)))
            joint = rng.choice(("of all the", "of the", "one of the", "among the", "one among the"))
            return f"the {self.superlative} {joint} {nouns}"
        return f"the {self.said_one(rng)}"

    def said_bare(self, rng: Random) -> str:
        """One particular object, its noun left out: "the largest", "the one on the left"."""
        if self.after:
            return f"the one {self.after}"
        of = ("one", "one", "one of all", "of all", "of them all", "one there is")
        return f"the {self.superlative or ' '.join(self.before)} {rng.choice(of)}"


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


MANY = (
    ("all", 5),
    ("all the", 4),
    ("all of the", 2),
    ("the", 6),
    ("", 6),
    ("any", 3),
    ("some", 1),
    ("every one of the", 1),
    ("each of the", 1),
    ("these", 0.5),
    ("those", 0.5),
    ("both", 0.5),
    ("both of the", 0.3),
    ("two", 0.5),
    ("three", 0.3),
    ("four", 0.2),
    ("several", 0.3),
    ("a few", 0.3),
    ("any and all", 0.3),
    ("whatever", 0.2),
    ("only the", 0.5),
    ("just the", 0.5),
    ("the various", 0.2),
    ("a couple of", 0.2),
    ("all those", 0.3),
    ("all visible", 0.3),
    ("the two", 0.3),
    ("the three", 0.2),
    ("all three", 0.2),
    ("2", 0.2),
    ("3", 0.2),
    ("the 4", 0.1),
    ("all 5", 0.1),
    ("the complete set of", 0.1),
)
ONE = (
    ("every", 5),
    ("each", 2),
    ("any", 2),
    ("a", 2),
    ("the", 5),
    ("every single", 1),
    ("each and every", 0.5),
    ("one", 0.4),
    ("that", 0.4),
    ("this", 0.3),
    ("", 0.4),
    ("just the", 0.4),
    ("only the", 0.4),
    ("every last", 0.2),
    ("each single", 0.2),
    ("at least one", 0.1),
    ("my", 0.15),
)


def _weighted(rng: Random, table: Sequence[tuple[str, float]]) -> str:
    return rng.choices([word for word, _ in table], [weight for _, weight in table])[0]


def quantified(rng: Random, phrase: Phrase) -> str:
    """One phrase with a quantifier or article: "every red circle", "any stars"."""
    if phrase.is_one:
        return phrase.said_the(rng)
    is_everything = phrase.name == (f"{phrase.color} thing" if phrase.color else "object")
    if is_everything and rng.random() < 0.4:
        return _everything(rng, phrase.color)
    if phrase.name == "person" and rng.random() < 0.4:
        return rng.choice(EVERYONE)
    # "the circle on the left" would be one object: a place takes the plural here.
    if rng.random() < 0.6 or phrase.after:
        return f"{_weighted(rng, MANY)} {phrase.said_many(rng)}".strip()
    word = _weighted(rng, ONE)
    said = phrase.said_one(rng)
    return f"{article(said)} {said}" if word == "a" else f"{word} {said}".strip()


def _everything(rng: Random, color: str) -> str:
    """ "everything red" means every red thing, "everything" every object."""
    if color:
        forms = ("everything {}", "anything {}", "everything that is {}", "all that is {}", "whatever is {}")
        return rng.choice(forms).format(color)
    return rng.choice(
        ("everything", "everything you see", "everything there is", "all of it", "anything there is")
    )


# What people call every person.
EVERYONE = ("everyone", "everybody", "every person", "each of the people", "anyone", "all the people")

PAIRS = (
    ("{} and {}", 10),
    ("{}, {}", 2),
    ("{} & {}", 1),
    ("{} as well as {}", 2),
    ("{} plus {}", 1.5),
    ("{} along with {}", 1.5),
    ("{} together with {}", 1),
    ("{} and also {}", 1),
    ("{}, and {}", 1),
    ("{} or {}", 2),
    ("{} / {}", 0.3),
    ("{} + {}", 0.3),
    ("{} and then {}", 0.5),
    ("{}, then {}", 0.4),
    ("{} and/or {}", 0.3),
    ("both {} and {}", 1),
    ("{}, also {}", 0.5),
    ("{} in addition to {}", 0.5),
    ("{}; {}", 0.3),
    ("{} and, if there, {}", 0.1),
    ("either {} or {}", 0.4),
    ("{} with {}", 0.3),
    ("{} besides {}", 0.1),
    ("{}, not forgetting {}", 0.1),
    ("first {}, then {}", 0.2),
    ("{} followed by {}", 0.2),
    ("not only {} but also {}", 0.4),
    ("{}, as well as {}", 0.4),
    ("{}, plus {}", 0.3),
    ("{} and {} too", 0.3),
    ("{} and {} as well", 0.3),
    ("{}, and {} too", 0.2),
    ("{} and {} alike", 0.2),
    ("{} alongside {}", 0.2),
    ("{} and likewise {}", 0.1),
)
LISTS = (
    (", ", " and ", 8),
    (", ", ", and ", 4),
    (", ", ", ", 2),
    (" and ", " and ", 1.5),
    (", ", " or ", 1.5),
    (", ", ", or ", 0.7),
    (", ", " as well as ", 1),
    (", ", " plus ", 0.7),
    (", ", " & ", 0.4),
    (", ", " along with ", 0.5),
    (", ", " and also ", 0.5),
    ("; ", "; ", 0.3),
    (" / ", " / ", 0.2),
    (", then ", " and finally ", 0.3),
    ("\n- ", "\n- ", 0.3),
    ("\n", "\n", 0.1),
)


def joined(rng: Random, said: Sequence[str]) -> str:
    """Several noun phrases as one: "the stars, every heart and a ring"."""
    if len(said) == 1:
        return said[0]
    if len(said) == 2:
        return _weighted(rng, PAIRS).format(*said)
    between, last, _ = rng.choices(LISTS, [weight for _, _, weight in LISTS])[0]
    start = between if between.startswith("\n") else ""
    return start + between.join(said[:-1]) + last + said[-1]


def _shared_noun(rng: Random, phrases: Sequence[Phrase]) -> str | None:
    """ "red, green and blue circles" for phrases that differ in one adjective only."""
    if len(phrases) < 2 or rng.random() < 0.3:
        return None
    adjectives = [phrase.before for phrase in phrases]
    if len({phrase.noun for phrase in phrases}) > 1 or any(len(words) != 1 for words in adjectives):
        return None
    if any(phrase.after or phrase.is_one for phrase in phrases):
        return None
    return f"{joined(rng, [words[0] for words in adjectives])} {plural(phrases[0].noun)}"


def listed(rng: Random, phrases: Sequence[Phrase], form: str) -> str:
    """The phrases in one of the forms a template asks for.

    `form`: "all" any quantifier; "many" bare plurals; "the" definite plurals; "a" indefinite
    singulars; "it" definite singulars; "name" bare singulars; "each" every / each singulars;
    "bare" one object without its noun ("the largest one"); "hued" the colour alone ("everything red");
    "whole" nothing at all.
    """
    if form in ("whole", "hued"):
        return phrases[0].color if form == "hued" else ""
    if form == "bare":
        return phrases[0].said_bare(rng)
    if any(phrase.is_one for phrase in phrases):
        said = [phrase.name if form == "name" else phrase.said_the(rng) for phrase in phrases]
        return joined(rng, said)
    if form in ("all", "many", "the"):
        shared = _shared_noun(rng, phrases)
        if shared is not None:
            start = {"all": _weighted(rng, MANY), "many": "", "the": "the"}[form]
            return f"{start} {shared}".strip()
    if form == "all":
        style = rng.random()
        if style < 0.4:
            return joined(rng, [quantified(rng, phrase) for phrase in phrases])
        word = _weighted(rng, MANY)
        rest = word if style < 0.7 else ""
        said = [phrase.said_many(rng) for phrase in phrases]
        words = [f"{word if k == 0 else rest} {many}".strip() for k, many in enumerate(said)]
        return joined(rng, words)
    if form == "many" or (form in ("a", "name") and any(phrase.after for phrase in phrases)):
        return joined(rng, [phrase.said_many(rng) for phrase in phrases])
    if form == "the" or (form == "it" and any(phrase.after for phrase in phrases)):
        every = rng.random() < 0.6
        return joined(
            rng, [("the " if every or k == 0 else "") + p.said_many(rng) for k, p in enumerate(phrases)]
        )
    ones = [phrase.said_one(rng) for phrase in phrases]
    if form == "a":
        return joined(rng, [f"{article(one)} {one}" for one in ones])
    if form == "it":
        return joined(rng, [f"the {one}" for one in ones])
    if form == "each":
        word = rng.choice(("every", "each", "every single", "each and every"))
        return joined(rng, [f"{word} {one}" for one in ones])
    if rng.random() < 0.08:  # "name", in quotation marks
        ones = [f'"{one}"' for one in ones]
    return joined(rng, ones)
