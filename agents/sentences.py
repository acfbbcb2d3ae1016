"""What is asked in plain words, as a person would say it: one sentence for every route.

Tools and the steps of workflows both speak from here, so a plan asks as a workflow what it asked as calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

CAPTION = "Describe the picture."

_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)
_CLOSING = " .!?"


def bare(phrase: str, *, article: bool = False) -> str:
    """A phrase without closing marks, and without its article unless that is wanted."""
    words = " ".join(phrase.split()).rstrip(_CLOSING)
    return words if article else _ARTICLE.sub("", words)


def detect(phrases: Sequence[str]) -> str:
    """ "Find every red circle, every star and every heart." """
    return f"Find {_every(phrases)}."


def ground(phrase: str) -> str:
    """ "Find the largest star." """
    return f"Find the {bare(phrase)}."


def segment(phrases: Sequence[str]) -> str:
    """ "Segment every star." """
    return f"Segment {_every(phrases)}."


def pose(phrases: Sequence[str], keypoints: Sequence[str] = ()) -> str:
    """ "Find the nose and the left eye of every person."; without names, "the keypoints"."""
    names = [f"the {bare(name)}" for name in keypoints] or ["the keypoints"]
    return f"Find {_listed(names)} of {_every(phrases)}."


def generate(prompt: str) -> str:
    """ "Paint a blue star." """
    return f"Paint {bare(prompt, article=True)}."


def edit(instruction: str) -> str:
    """ "Make the star green." """
    words = instruction.strip()
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _every(phrases: Sequence[str]) -> str:
    """Each thing once, as it was first said: one that is asked for twice is found and counted twice."""
    once: dict[str, str] = {}
    for name in map(bare, phrases):
        # Words in braces are ports of a step, whose names keep their case.
        once.setdefault(name if "{" in name else name.casefold(), name)
    return _listed([f"every {name}" for name in once.values()])


def _listed(said: Sequence[str]) -> str:
    """ "one, two and three"."""
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
