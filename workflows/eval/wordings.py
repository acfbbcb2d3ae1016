"""Sentences in plain speech, written by language models that saw none of the templates.

Held-out templates are of the same making as those of training; these are not, so they are closer to what
a stranger types. Training does not draw from them, but its templates can spell about half: they are plain.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from importlib.resources import files

from superlink.workflows.data.instructions.answers import NOTHING, Routed, answer
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.world import one_round
from superlink.workflows.eval.scenes import scene_of

FINDING_TOKENS = frozenset({"[DET]", "[GRD]", "[SEG]"})


Wording = tuple[str, tuple[Routed, ...]]


def wordings(tokens: Collection[str]) -> list[Wording]:
    """Sentences for a system that writes these routing tokens.

    Orders that only a system without pictures or edits should leave alone ("Paint the squares blue.") are
    not asked of one that has them.

    Returns:
        The (token, phrase) pairs that each asks for; none where it asks for nothing.
    """
    known = set(tokens)
    return [
        (text, routed)
        for text, routed, unless in _everything()
        if {token for token, _ in routed} <= known and unless not in known
    ]


@cache
def _everything() -> tuple[tuple[str, tuple[Routed, ...], str], ...]:
    text = files("superlink.workflows.eval").joinpath("wordings.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return tuple(
        (line["text"], tuple((token, phrase) for token, phrase in line["expected"]), line.get("unless", ""))
        for line in lines
    )


class SpokenSamples:
    """The sentences for a system that writes `tokens`, each about a held-out scene of the seed."""

    def __init__(self, length: int, *, seed: int = 0, tokens: Collection[str] = FINDING_TOKENS) -> None:
        self._wordings = wordings(tokens)
        self._length = min(length, len(self._wordings))
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        # Few of them are as mixed as all of them: the file goes from one kind to the next.
        text, routed = self._wordings[index * len(self._wordings) // self._length]
        image = scene_of(index, self._seed).image()
        sample = one_round(text, answer(routed) if routed else NOTHING, image, task="spoken")
        return replace(sample, source=f"spoken:{self._seed}:{index}")
