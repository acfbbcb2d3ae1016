"""Other words of the same meaning in sentences of training: what people know and a young model does not.

A template is met as it was written half of the time; otherwise words of it make room for others from
`templates/synonyms.txt` where things are to be found, from `templates/synonyms_scenes.txt` elsewhere:
what means the same differs. Held-out wordings stay as they are, and no replacement may spell one.
"""

from __future__ import annotations

import re
from functools import cache
from random import Random

from superlink.workflows.data.instructions.grammar import Choice, lines, templates

UNTOUCHED = 0.5  # of the sentences
_REPLACED = 0.35  # of the words, in the others, that have others of the same meaning
_LONGEST = 4  # words of a key
_FINDING = frozenset(["detect", "ground", "segment", "mixed", "negation", "chat", "region", "dialogue"])
Synonyms = dict[tuple[str, ...], tuple[str, ...]]
_PIECE = re.compile(r"\{[^}]*\}|[A-Za-z]+(?:['-][A-Za-z]+)*|[^A-Za-z{]+")
_SLOT = re.compile(r"\{(\w*)[^}]*\}")


def synonyms(name: str) -> Synonyms:
    """What may stand in place of some words in a row, in templates of file `name`."""
    return _table("synonyms" if name in _FINDING else "synonyms_scenes")


@cache
def _table(name: str) -> Synonyms:
    table: Synonyms = {}
    for line in lines(name):
        key, _, others = line.partition(": ")
        table[tuple(key.split(" "))] = tuple(others.split(" | "))
    return table


def varied(rng: Random, skeleton: str, name: str) -> str:
    """The text of a template of file `name`, slots still open, with other words here and there."""
    if rng.random() < UNTOUCHED:
        return skeleton
    changed = _replaced(rng, skeleton, synonyms(name))
    return skeleton if changed == skeleton or spells_held_out(changed, name) else changed


def _replaced(rng: Random, skeleton: str, table: Synonyms) -> str:
    pieces: list[str] = _PIECE.findall(skeleton)
    written: list[str] = []
    at = 0
    while at < len(pieces):
        length = 1
        others: tuple[str, ...] = ()
        for words in range(min(_LONGEST, (len(pieces) - at + 1) // 2), 0, -1):
            stretch = pieces[at : at + 2 * words - 1]
            if all(gap == " " for gap in stretch[1::2]):
                others = table.get(tuple(word.lower() for word in stretch[::2]), ())
            if others:
                length = len(stretch)
                break
        if others and rng.random() < _REPLACED:
            written.append(rng.choice(others))
            at += length
        else:
            written.append(pieces[at])
            at += 1
    return "".join(written)


def spells_held_out(skeleton: str, name: str) -> bool:
    """Whether a text is a wording of a held-out template of file `name`, but for case and punctuation."""
    words = " ".join(re.findall(r"\w+", _named_slots(skeleton)))
    return any(pattern.fullmatch(words) for pattern in _held_out(name))


@cache
def _held_out(name: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_pattern(template.body)) for template in templates(name) if template.held_out)


def _pattern(body: Choice) -> str:
    """A regular expression for all texts of a template."""
    options = ("".join(map(_part, parts)) for parts in body.options)
    return f"(?:{'|'.join(options)})"


def _part(part: str | Choice) -> str:
    if isinstance(part, Choice):
        return _pattern(part)
    return "".join(word or " *" for word, _ in re.findall(r"(\w+)|(\W+)", _named_slots(part)))


def _named_slots(text: str) -> str:
    return _SLOT.sub(r" \1slot ", text).lower()
