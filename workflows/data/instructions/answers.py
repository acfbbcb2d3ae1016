"""Answers and what they route: few fixed forms, so that greedy decoding has one way to go."""

from __future__ import annotations

import re
from collections.abc import Sequence

from superlink.workflows.data.samples import Sample

Routed = tuple[str, str]  # (token, phrase): ("[DET]", "red circle")

_TAGGED = re.compile(r"<det>([^<>]+)</det>(\[[A-Z]+\])")

NOTHING = "All right, I mark nothing."
# Sections of chat.txt that are no longer true of a router that learns the tasks they refuse.
NO_WORDS = "I cannot describe or count yet, but I can find and outline things: tell me what."
NO_PICTURES = "I cannot change or make pictures yet, but I can find and outline things in them."
# What a router that answers in words says to a question of another kind.
NO_ANSWER = "I cannot tell. Ask me where things are, what colour or shape they have, or how many there are."
UNCLEAR = "Please tell me what: for example, find the red circles."  # also a section of chat.txt


def answer(routed: Sequence[Routed]) -> str:
    """The answer that routes every phrase to its token, in order."""
    tokens = {token for token, _ in routed}
    if not routed:
        return NOTHING
    if tokens == {"[GRD]"}:
        start = "Here it is:"
    elif tokens == {"[SEG]"}:
        start = "Outlined:"
    elif tokens == {"[GEN]"}:
        start = "Painted:"
    elif tokens == {"[EDIT]"}:
        start = "Changed:"
    else:
        start = "Here they are:"
    # The space stands inside the tag: a word then has the ids that it has in the instruction.
    return start + ",".join(f"<det> {phrase}</det>{token}" for token, phrase in routed) + "."


def routing_of(text: str) -> tuple[Routed, ...]:
    """Every (token, phrase) of an answer, in reading order."""
    return tuple((token, phrase.strip()) for phrase, token in _TAGGED.findall(text))


def without_tags(text: str) -> str:
    """What people read of an answer: phrases, but neither tags nor tokens."""
    return _TAGGED.sub(r"\1", text)


def expected_routing(sample: Sample) -> tuple[Routed, ...]:
    """What a router should route for this sample: the last message's tokens and phrases."""
    return routing_of(sample.conversation[-1].text)
