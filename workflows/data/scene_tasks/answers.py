"""Answers in words: what counts in them, for comparing a free reply with the right one."""

from __future__ import annotations

import re
from collections import Counter

from superlink.workflows.data.instructions.words import COLORS, SHAPES, plural
from superlink.workflows.data.shapes.language import NUMBERS

_OPENING = re.compile(r"^(?:it is|they are|i count|i see) (?:(?:on|at|in) (?=the\b))?", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:a|an|the)\s+", re.IGNORECASE)
_HEADS = {form: meaning for noun, meaning in SHAPES.items() for form in (noun, plural(noun))}
_COUNTS = {"a": 1, "an": 1, **{word: number for number, word in enumerate(NUMBERS)}}
_OBJECT = re.compile(
    rf"\b({'|'.join(_COUNTS)}|\d)\s+(?:(?:large|small)\s+)?({'|'.join(COLORS)})\s+"
    rf"({'|'.join(sorted(_HEADS, key=len, reverse=True))})\b"
)

COUNTED = ("zero", *NUMBERS[1:])  # how a number of objects is answered


def short_answer(reply: str) -> str:
    """What a reply in words says: "It is on the left." → "left", "I count three." → "three".

    Lower case, without opening, articles and full stop. Digits become words, "grey" becomes "gray".
    """
    words = _ARTICLE.sub("", _OPENING.sub("", " ".join(reply.split()))).rstrip(".! ").lower()
    if words.isdigit() and int(words) < len(COUNTED):
        return COUNTED[int(words)]
    return re.sub(r"\bgrey\b", "gray", words)


def objects_named(text: str) -> Counter[tuple[str, str]]:
    """How many of which (colour, shape) a sentence names: "two red circles" is 2 of ("red", "circle")."""
    found: Counter[tuple[str, str]] = Counter()
    for number, color, noun in _OBJECT.findall(text.lower()):
        found[COLORS[color], _HEADS[noun]] += int(number) if number.isdigit() else _COUNTS[number]
    return found
