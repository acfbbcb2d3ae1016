"""Routing accuracy: did the router hand the right phrases to the right decoders, by itself?

A reply counts as right only if its routing tokens and their phrases are those of the reference,
all of them, in order. Replies are generated freely from wordings that training never used.
"""

from __future__ import annotations

import re

from superlink.router.tokens import ROUTING_TEXTS
from superlink.workflows.data.instructions.answers import Routed, expected_routing, routing_of
from superlink.workflows.data.samples import Dataset, iterate
from superlink.workflows.eval.answering import Answer, Progress, answered, question_of
from superlink.workflows.eval.report import Metric

_TOKEN = re.compile("|".join(re.escape(text) for text in ROUTING_TEXTS))


def routing(
    answer: Answer, samples: Dataset, *, batch: int = 16, progress: Progress | None = None
) -> list[Metric]:
    """Accuracy over all samples that ask for something, for each task, and silence on the others.

    Args:
        answer: what is evaluated.
        samples: conversations that end with the reference reply.
        batch: questions of one generation.
        progress: told of answered questions.
    """
    right: dict[str, list[bool]] = {}
    quiet: list[bool] = []
    questions = (question_of(sample.conversation[:-1], sample.image) for sample in iterate(samples))
    turns = answered(answer, questions, batch, progress)
    for sample, turn in zip(iterate(samples), turns, strict=True):
        expected = expected_routing(sample)
        if expected:
            right.setdefault(sample.task, []).append(is_right(turn.raw, expected))
        else:
            quiet.append(not _TOKEN.search(turn.raw))
    every = [one for task in right.values() for one in task]
    metrics = [_share("exact", every)]
    metrics += [_share(f"exact, {task}", right[task]) for task in sorted(right)]
    return [*metrics, _share("no token where nothing is asked", quiet)]


def is_right(raw: str, expected: tuple[Routed, ...]) -> bool:
    """Whether a reply routes exactly these (token, phrase) pairs, in this order."""
    tokens = tuple(match.group() for match in _TOKEN.finditer(raw))
    return tokens == tuple(token for token, _ in expected) and _plain(routing_of(raw)) == _plain(expected)


def _plain(routed: tuple[Routed, ...]) -> list[Routed]:
    return [(token, " ".join(phrase.lower().split())) for token, phrase in routed]


def _share(name: str, flags: list[bool]) -> Metric:
    value = sum(flags) / len(flags) if flags else 0.0
    return Metric(group="routing", name=name, value=value, count=len(flags))
