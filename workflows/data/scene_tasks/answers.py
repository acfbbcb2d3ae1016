"""Answers in words: what counts in them, for comparing a free reply with the right one."""

from __future__ import annotations

import re
from collections import Counter

from superlink.workflows.data.instructions.words import COLORS, SHAPES, SIZES, plural
from superlink.workflows.data.shapes.language import NUMBERS

_OPENING = re.compile(r"^(?:it is|they are|i count|i see) (?:(?:on|at|in) (?=the\b))?", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:a|an|the)\s+", re.IGNORECASE)

COUNTED = ("zero", *NUMBERS[1:])  # how a number of objects is answered
DIGITS = {word: str(number) for number, word in enumerate((*NUMBERS, "ten")) if number}
NONE = ("no", "none", "zero", "nothing")
ARTICLES = ("a", "an", "the")

_HEADS = {form: meaning for noun, meaning in SHAPES.items() for form in (noun, plural(noun))}
_HEADS["persons"] = "person"
_OBJECT = re.compile(
    rf"(?:\b({'|'.join((*DIGITS, *ARTICLES, *NONE))}|\d+)\s+)?(?:\b(?:{'|'.join((*SIZES, 'medium'))})\s+)?"
    rf"\b({'|'.join(COLORS)})\s+({'|'.join(sorted(_HEADS, key=len, reverse=True))})\b"
)


def short_answer(reply: str) -> str:
    """What a reply in words says: "It is on the left." → "left", "I count three." → "three".

    Lower case, without opening, articles and full stop. Digits become words, "grey" becomes "gray".
    """
    words = _ARTICLE.sub("", _OPENING.sub("", " ".join(reply.split()))).rstrip(".! ").lower()
    if words.isdigit() and int(words) < len(COUNTED):
        return COUNTED[int(words)]
    return re.sub(r"\bgrey\b", "gray", words)


def objects_named(text: str) -> Counter[tuple[str, str]]:
    """How many of which (colour, shape) a sentence names: "two red circles" is 2 of ("red", "circle").

    One where it gives no number; what it names with "no" is left out.
    """
    found: Counter[tuple[str, str]] = Counter()
    for number, color, noun in _OBJECT.findall(" ".join(text.lower().split())):
        digits = DIGITS.get(number, number)
        count = int(digits) if digits.isdecimal() else 0 if number in NONE else 1
        found[COLORS[color], _HEADS[noun]] += count
    return +found
