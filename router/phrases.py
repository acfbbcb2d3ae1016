"""What the router wrote, as people read it, and the words that every routing token stands for.

A routing token owns the phrase in tags right before it: `<det>red circle</det>[DET]`. Without
tags the VisionLLM v2 rule holds: the words back to the previous comma, group or sentence start.
Everything here is about text; ids and tensors live elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from superlink.router.tokens import GROUND_END, GROUND_START, PHRASE_END, PHRASE_START, SPECIAL_TOKENS

OPENING_TAGS = (PHRASE_START, GROUND_START)
CLOSING_TAGS = (PHRASE_END, GROUND_END)
GROUNDING = "[GRD]"

_CLAUSE = re.compile(r"[,;:!?\n]|\.(?=\s|$)")
_LEADING_JOIN = re.compile(r"^(?:and|or)\s+", re.IGNORECASE)
_CLOSING_MARKS = ".,;:!?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedReply:
    text: str  # for people: no special tokens, phrases kept
    phrases: tuple[str, ...]  # one for every routing token, in reading order


def parse_reply(raw: str, routing_texts: Collection[str], *, expression: str = "") -> ParsedReply:
    """Split raw text into what people read and the phrases of its routing tokens.

    Args:
        raw: generated text, tags and routing tokens written out.
        routing_texts: the routing tokens of the router.
        expression: what the user asked for; a routing token without words of its own means this.
    """
    reader = ReplyReader(expression=expression)
    parts: list[str] = []
    phrases: list[str] = []
    special = frozenset({*SPECIAL_TOKENS, *routing_texts})
    pattern = "|".join(re.escape(text) for text in sorted(special, key=lambda text: (-len(text), text)))
    for piece in re.split(f"({pattern})", raw):
        if piece in routing_texts:
            phrases.append(reader.route(piece))
        elif piece in special:
            reader.mark(piece)
        else:
            parts.append(reader.words(piece))
    return ParsedReply(text="".join(parts), phrases=tuple(phrases))


@dataclass(slots=True)
class _Gap:
    """White space that waits for words, before and after the special tokens in it."""

    before: str = ""
    after: str = ""
    crossed: bool = False  # a special token stood in this gap
    begun: bool = False  # some words were written

    def cross(self) -> None:
        if self.crossed:
            self.before = max(self.before, self.after, key=len)
            self.after = ""
        self.crossed = True

    def fill(self, text: str) -> str:
        body = text.lstrip()
        space = text[: len(text) - len(body)]
        if self.crossed:
            self.after += space
        else:
            self.before += space
        if not body:
            return ""
        lead = self._lead(body) if self.begun else ""
        trimmed = body.rstrip()
        self.before, self.after, self.crossed, self.begun = body[len(trimmed) :], "", False, True
        return lead + trimmed

    def _lead(self, body: str) -> str:
        if not self.crossed:
            return self.before
        if not self.after and body[0] in _CLOSING_MARKS:  # "star [DET]." reads "star."
            return ""
        return max(self.before, self.after, key=len)


@dataclass(slots=True, kw_only=True)
class ReplyReader:
    """Reads a reply piece by piece, in the order of writing.

    The text it returns is final: later pieces never change it. White space is held back until
    words follow, so the joined text has none at either end.
    """

    expression: str = ""
    _words: str = ""  # since the last routing token or closed tag
    _tagged: str | None = None  # inside the last pair of tags, until other words follow
    _in_tag: bool = False
    _previous: str = ""  # phrase of the last routing token
    _gap: _Gap = field(default_factory=_Gap)

    def words(self, text: str) -> str:
        """Take plain text; return what people can read of it now."""
        if not text:
            return ""
        if self._tagged is not None and not self._in_tag and text.strip():
            self._tagged = None
        self._words += text
        return self._gap.fill(text)

    def mark(self, token: str) -> None:
        """Take a special token that is no routing token."""
        self._gap.cross()
        if token in OPENING_TAGS:
            self._in_tag, self._tagged, self._words = True, None, ""
        elif token in CLOSING_TAGS and self._in_tag:
            self._in_tag, self._tagged, self._words = False, " ".join(self._words.split()), ""

    def route(self, token: str) -> str:
        """Take a routing token; return its phrase."""
        phrase = self._phrase(token)
        self._gap.cross()
        self._words, self._tagged, self._in_tag = "", None, False
        self._previous = phrase
        return phrase

    def _phrase(self, token: str) -> str:
        if self._tagged:
            return self._tagged
        if self._in_tag and self._words.strip():  # the closing tag was forgotten
            return " ".join(self._words.split())
        own = _last_clause(self._words)
        if token == GROUNDING and self.expression and (not own or self._words[-1:].isspace()):
            # "It is [GRD]": the token stands in place of the expression.
            return self.expression
        if own:
            return own
        if self._previous and not self._words.strip():  # "star[DET][SEG]"
            return self._previous
        return self.expression


def _last_clause(words: str) -> str:
    """The words after the last comma or sentence end, without a leading "and"."""
    clause = _CLAUSE.split(words)[-1]
    return _LEADING_JOIN.sub("", " ".join(clause.split())).strip()
