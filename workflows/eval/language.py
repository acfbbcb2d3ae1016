"""Scores of answers in words: exact match, counts, and captions that name every object.

Answers are compared after normalising them as the VQA evaluation of Antol et al. 2015 does: case,
punctuation, articles and number words do not count, nor do openings such as "It is".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from superlink.workflows.data.instructions.words import COLORS
from superlink.workflows.data.scene_tasks.answers import ARTICLES, DIGITS, NONE, objects_named
from superlink.workflows.eval.report import Metric, share

_OPENING = re.compile(r"^(?:it is|it's|they are|there is|there are|i count|i see|i can see)\b")
_PLACE = re.compile(r"^(?:on|at|in)\b")


def normalised(text: str) -> str:
    """What an answer says: "It is on the left." is "left", "Three red circles!" is "3 red circles"."""
    words = " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())
    words = _PLACE.sub("", _OPENING.sub("", words).strip())
    kept = [word for word in words.split() if word not in ARTICLES]
    return " ".join(
        "0" if word == "zero" else DIGITS.get(COLORS.get(word, word), COLORS.get(word, word)) for word in kept
    )


def is_exact(reply: str, truth: str) -> bool:
    """Whether two answers say the same; a yes or a no may be followed by more words."""
    said, meant = normalised(reply), normalised(truth)
    if meant in ("yes", "no"):
        return said.split()[:1] == [meant]
    return said == meant


def number_in(text: str) -> int | None:
    """The first number of a text, in digits or words; "no" and "none" are 0; None without one."""
    for word in re.findall(r"\w+", text.lower()):
        if word in NONE:
            return 0
        if (digits := DIGITS.get(word, word)).isdecimal():
            return int(digits)
    return None


def answers(replies: Sequence[str], truths: Sequence[str], kinds: Sequence[str]) -> list[Metric]:
    """Accuracy of answers over all kinds but "count", of every kind, and of counts.

    Args:
        replies: what was written.
        truths: the right answers.
        kinds: of the questions, such as "color"; those of kind "count" are right when the first number
            of the reply is.

    Raises:
        ValueError: not as many of each.
    """
    _check(replies, truths, kinds)
    right: dict[str, list[bool]] = {}
    for reply, truth, kind in zip(replies, truths, kinds, strict=True):
        if kind == "count":
            meant = number_in(truth)
            flag = meant is not None and number_in(reply) == meant
        else:
            flag = is_exact(reply, truth)
        right.setdefault(kind, []).append(flag)
    counts = right.pop("count", [])
    metrics = [share("vqa", kind, right[kind]) for kind in sorted(right)]
    if right:
        every = [flag for flags in right.values() for flag in flags]
        metrics.insert(0, share("vqa", "exact match", every))
    return metrics + ([share("vqa", "counting", counts)] if counts else [])


def captions(replies: Sequence[str], truths: Sequence[str]) -> list[Metric]:
    """How fully and how truly captions name objects by colour and shape.

    Args:
        replies: what was written.
        truths: captions that name every object.

    Raises:
        ValueError: not as many of each.
    """
    _check(replies, truths)
    full: list[bool] = []
    shared = said = meant = 0
    for reply, truth in zip(replies, truths, strict=True):
        named, there = objects_named(reply), objects_named(truth)
        full.append(not there - named)
        shared += (named & there).total()
        said += named.total()
        meant += there.total()
    return [
        share("captions", "every object named", full),
        Metric(group="captions", name="objects named", value=shared / meant if meant else 0.0, count=meant),
        Metric(
            group="captions",
            name="named ones that are there",
            value=shared / said if said else 0.0,
            count=said,
        ),
    ]


def _check(replies: Sequence[str], *others: Sequence[str]) -> None:
    for other in others:
        if len(other) != len(replies):
            raise ValueError(f"{len(replies)} replies do not pair with {len(other)} truths or kinds")
