"""The little template language of the `templates/*.txt` files.

A line is one template. `(find|spot|)` picks one alternative, `<verb>` one entry of `macros.txt`,
`{d:all}` is a slot: group `d`, form `all` (see `tasks.py` and `phrases.listed`); `{d:all!}` takes
exactly one phrase. `[section]` starts a section, `#` a comment, `~` marks a template that is held out from
training for good, and `=` an everyday one, which training draws more often than its share of the lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import accumulate, product
from random import Random
from typing import Literal

from superlink.router.errors import DataError

Split = Literal["train", "heldout"]

SLOT = re.compile(r"\{(\w):(\w+)(!?)\}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences of text and choices."""

    options: tuple[tuple[str | Choice, ...], ...]

    def sample(self, rng: Random) -> str:
        parts = self.options[0] if len(self.options) == 1 else rng.choice(self.options)
        return "".join(part if isinstance(part, str) else part.sample(rng) for part in parts)

    def count(self) -> int:
        """Number of texts."""
        return sum(
            math.prod(1 if isinstance(part, str) else part.count() for part in parts)
            for parts in self.options
        )

    def expansions(self) -> Iterator[str]:
        """Every text, slots left as they are."""
        for parts in self.options:
            texts = [[part] if isinstance(part, str) else list(part.expansions()) for part in parts]
            for pieces in product(*texts):
                yield "".join(pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    file: str
    section: str
    source: str  # the line, without its mark
    held_out: bool
    body: Choice
    everyday: bool = False  # drawn more often in training

    @property
    def weight(self) -> float:
        """Templates with many expansions are drawn more often, up to a limit."""
        return 1.0 + min(math.log2(self.body.count()), 5.0)


def parse(source: str) -> Choice:
    """A template line as nested choices.

    Raises:
        DataError: unbalanced parentheses, or an unknown macro.
    """
    pieces = re.findall(r"<\w+>|[()|]|[^()|<]+", source)
    body, rest = _sequence(pieces, 0, source)
    if rest != len(pieces):
        raise DataError(f"template {source!r}: unbalanced ')', balance the parentheses")
    return body


def _sequence(pieces: list[str], start: int, source: str) -> tuple[Choice, int]:
    options: list[tuple[str | Choice, ...]] = []
    parts: list[str | Choice] = []
    position = start
    while position < len(pieces) and pieces[position] != ")":
        piece = pieces[position]
        if piece == "(":
            inner, position = _sequence(pieces, position + 1, source)
            if position >= len(pieces):
                raise DataError(f"template {source!r}: unbalanced '(', balance the parentheses")
            parts.append(inner)
        elif piece == "|":
            options.append(tuple(parts))
            parts = []
        elif piece.startswith("<"):
            parts.append(macro(piece[1:-1]))
        else:
            parts.append(piece)
        position += 1
    options.append(tuple(parts))
    return Choice(tuple(options)), position


def lines(name: str) -> Iterator[str]:
    """The lines of a template file that are neither empty nor comments."""
    text = files("superlink.workflows.data.instructions").joinpath("templates", f"{name}.txt")
    for line in text.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


@cache
def word_list(name: str) -> tuple[str, ...]:
    """A list of `lists.txt`."""
    lists = dict(line.split(": ", 1) for line in lines("lists"))
    return tuple(lists[name].split(" | "))


@cache
def _macros() -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines("macros"))


@cache
def macro(name: str) -> Choice:
    """The choice that a macro stands for."""
    if name not in _macros():
        raise DataError(f"template macro <{name}> is not in macros.txt; known: {sorted(_macros())}")
    return parse(_macros()[name])


@cache
def templates(name: str) -> tuple[Template, ...]:
    """All templates of one file, in order."""
    found: list[Template] = []
    section = ""
    for line in lines(name):
        if line.startswith("["):
            section = line[1 : line.index("]")]
            continue
        source = line.lstrip("~=").strip()
        found.append(
            Template(
                file=name,
                section=section,
                source=source,
                held_out=line.startswith("~"),
                everyday=line.startswith("="),
                body=parse(source),
            )
        )
    return tuple(found)


EVERYDAY = 0.55  # of what training draws, where there are such templates


@cache
def _weighted(name: str, split: Split, section: str | None) -> tuple[list[Template], list[float]]:
    chosen = [
        template
        for template in templates(name)
        if template.held_out == (split == "heldout") and section in (None, template.section)
    ]
    if not chosen:
        raise DataError(f"template file {name!r} has no {split!r} templates in section {section!r}")
    special = sum(template.weight for template in chosen if template.everyday)
    others = sum(template.weight for template in chosen) - special
    favour = EVERYDAY / (1 - EVERYDAY) * others / special if special else 1.0
    return chosen, list(accumulate(t.weight * (favour if t.everyday else 1.0) for t in chosen))


def draw(rng: Random, name: str, split: Split, section: str | None = None) -> Template:
    """A template of one file and split, by weight."""
    chosen, cumulative = _weighted(name, split, section)
    return rng.choices(chosen, cum_weights=cumulative)[0]


def tidy(text: str) -> str:
    """Single spaces, none before punctuation, none at the ends."""
    text = re.sub(r" {2,}", " ", text)
    text = re.sub(r" +([,.;:?!])", r"\1", text)
    return re.sub(r" *\n *", "\n", text).strip()
