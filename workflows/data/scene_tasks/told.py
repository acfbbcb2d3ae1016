"""Pictures and changes that are only spoken of: what people ask for need not be what scenes can show.

Rows of words alone have no picture to fit, so they may ask for "five small stars around a red barn".
The router learns to hand on all of it; `paintings` and `changes` teach what the painters can do.
"""

from __future__ import annotations

from random import Random

from superlink.workflows.data.instructions.grammar import word_list
from superlink.workflows.data.instructions.phrases import Phrase
from superlink.workflows.data.instructions.vocabulary import Vocabulary, nouns, shape_noun
from superlink.workflows.data.instructions.words import (
    COLORS,
    HALVES,
    PLACES,
    SIZES,
    article,
    invented,
    plural,
)

SHARE = 0.6  # of what is only spoken of; the rest is what scenes show

_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "2", "3", "4", "5", "12")
_CROWDS = ("many", "a few", "several", "lots of", "some", "a pair of", "a group of", "countless", "a dozen")
_FORMATIONS = ("a row of", "a line of", "a circle of", "a column of", "a grid of", "a pile of", "a ring of")
_RELATIONS = (
    *("left of", "to the left of", "right of", "to the right of", "above", "over", "below", "under"),
    *("underneath", "beneath", "next to", "beside", "by", "near", "close to", "around", "inside", "in"),
    *("on top of", "in front of", "behind", "touching", "far away from", "across from", "diagonal from"),
    *("surrounded by", "overlapping", "half hidden by", "leaning on", "on", "within", "against", "facing"),
)
_HELD = ("holding", "carrying", "waving", "looking at", "standing on", "sitting on", "pointing at", "kicking")
_PEOPLE = ("person", "man", "woman", "child", "stick figure", "girl", "boy")
_SPOTS = (
    *("in the middle", "in the center", "in the centre", "at the top", "at the bottom", "on the left"),
    *("on the right", "in one corner", "in the corner", "along the bottom", "near the top", "up high"),
    *("off to the left", "close to the right edge", "near the left edge", "down low", "in every corner"),
)
_GROUNDS = (
    *("on {a} background", "on {a} background", "against {a} background", "with {a} background"),
    *("on {a} page", "on {a} canvas", "in front of {a} wall", "over {a} backdrop", "on plain {}"),
)
_SIDES = ("left", "right", "top", "bottom", "upper", "lower", "middle", "other", "first", "last", "second")


def picture(rng: Random) -> str:
    """What a new picture is to show, with its article: "a red star inside two blue rings"."""
    kind = rng.random()
    if kind < 0.34:
        words = _thing(rng)
        if rng.random() < 0.4:
            words += f" {_spot(rng)}"
    elif kind < 0.66:
        words = _related(rng)
    elif kind < 0.84:
        words = _several(rng)
    elif kind < 0.90:
        words = _placed(rng)
    elif kind < 0.94:
        words = _each_its_own(rng)
    else:
        words = f"{_thing(rng)} with {_thing(rng)} {rng.choice(('inside it', 'in it', 'on top', 'below it'))}"
    if rng.random() < 0.18:
        color = _color(rng)
        words += " " + rng.choice(_GROUNDS).format(color, a=f"{article(color)} {color}")
    return words


def referent(rng: Random) -> str:
    """What is to be changed, with its article: "the left star", "the red circle next to the barn"."""
    kind = rng.random()
    if kind < 0.25:
        return f"the {rng.choice(_SIDES)} {_noun(rng)}"
    if kind < 0.50:
        return f"the {_described(rng)}"
    if kind < 0.62:
        return f"the {_described(rng)} {_spot(rng)}"
    if kind < 0.72:
        return f"the {_described(rng)} {rng.choice(_RELATIONS)} the {_described(rng)}"
    if kind < 0.82:
        many = rng.choice(("the", "all", "all the", "both", "all of the", "the two", "these", "any"))
        return f"{many} {_described(rng, many=True)}"
    if kind < 0.86:
        return f"{rng.choice(('every', 'each'))} {_described(rng)}"
    one: Phrase = Vocabulary(0.25).one(rng)
    return one.said_the(rng)


def addition(rng: Random) -> str:
    """What is to be added, with its article: "a small white star", "two red hearts"."""
    return _thing(rng)


def place(rng: Random) -> str:
    """Where it is to be added."""
    if rng.random() < 0.3:
        return f"{rng.choice(_RELATIONS)} the {_described(rng)}"
    return _spot(rng)


def color(rng: Random) -> str:
    """A colour that something is to have."""
    return _color(rng)


def _thing(rng: Random) -> str:
    """One thing or some of them: "a small red circle", "five stars"."""
    kind = rng.random()
    if kind < 0.70:
        one = _described(rng)
        start = "one" if kind < 0.05 else "a single" if kind < 0.07 else article(one)
        return f"{start} {one}"
    many = _described(rng, many=True)
    if kind < 0.90:
        return f"{rng.choice(_NUMBERS)} {many}"
    if kind < 0.96:
        return f"{rng.choice(_CROWDS)} {many}"
    number = f"{rng.choice(_NUMBERS)} " if rng.random() < 0.6 else ""
    return f"{rng.choice(_FORMATIONS)} {number}{many}"


def _described(rng: Random, *, many: bool = False) -> str:
    words = []
    if rng.random() < 0.28:
        words.append(rng.choice(tuple(SIZES)))
    if rng.random() < 0.07:
        words.append(rng.choice(word_list("attributes")))
    if rng.random() < 0.75:
        words.append(_color(rng))
    noun = _noun(rng)
    return " ".join((*words, plural(noun) if many else noun))


def _noun(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.82:
        return shape_noun(rng)
    return rng.choice(nouns()) if kind < 0.96 else invented(rng)


def _color(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.86:
        return rng.choice(tuple(COLORS))
    if kind < 0.94:
        return f"{rng.choice(word_list('shades'))} {rng.choice(tuple(COLORS))}"
    return rng.choice(word_list("other colours"))


def _spot(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(_SPOTS)
    if kind < 0.60:
        return rng.choice(HALVES[rng.choice(tuple(HALVES))])
    return rng.choice(PLACES[rng.choice([name for name, said in PLACES.items() if said])])


def _related(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.12:
        noun = rng.choice(_PEOPLE)
        who = f"{_color(rng)} {noun}" if rng.random() < 0.6 else noun
        return f"{article(who)} {who} {rng.choice(_HELD)} {_thing(rng)}"
    if kind < 0.22:
        between = _thing(rng)
        ends = (
            f"two {_described(rng, many=True)}" if rng.random() < 0.5 else f"{_thing(rng)} and {_thing(rng)}"
        )
        return f"{between} between {ends}"
    return f"{_thing(rng)} {rng.choice(_RELATIONS)} {_thing(rng)}"


def _several(rng: Random) -> str:
    count = rng.choices((2, 3, 4), (60, 30, 10))[0]
    *first, last = [_thing(rng) for _ in range(count)]
    if count == 2:
        return f"{first[0]} {rng.choice(('and', 'and', 'and', 'with', 'together with', 'plus'))} {last}"
    return f"{', '.join(first)}{rng.choice((' and ', ', and '))}{last}"


def _placed(rng: Random) -> str:
    """Two things, each at its place."""
    spots = rng.choice(
        (
            ("on the left", "on the right"),
            ("on the right", "on the left"),
            ("at the top", "at the bottom"),
            ("at the bottom", "at the top"),
            ("in one corner", "in the other"),
            ("in the top left corner", "in the bottom right corner"),
        )
    )
    return f"{_thing(rng)} {spots[0]} and {_thing(rng)} {spots[1]}"


def _each_its_own(rng: Random) -> str:
    """ "two stars, one red and one small"."""
    one, other = rng.sample((*COLORS, "small", "big", "large", "tiny"), 2)
    joint = rng.choice(
        (f"one {one} and one {other}", f"one {one}, one {other}", f"a {one} one and a {other} one")
    )
    return f"{rng.choice(('two', 'two', '2'))} {plural(_noun(rng))}, {joint}"
