"""Streams of one task each, for the tests of tasks about scenes."""

from __future__ import annotations

from functools import cache

from superlink.workflows.data.instructions.mix import ShapesMix
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ShapesSamples

SILENT = dict.fromkeys(
    ("detect", "ground", "segment", "mixed", "nothing", "partial", "chat", "region", "dialogue"), 0.0
)
SMALL = SceneConfig(height=96, width=96, other_canvas=0.0)
LENGTH = 10**6


def only(task: str) -> ShapesMix:
    return ShapesMix.only(task)


def stream(task: str, **changes: object) -> ShapesSamples:
    return ShapesSamples(LENGTH, mix=only(task), scenes=SMALL, **changes)  # type: ignore[arg-type]


@cache
def some(task: str, count: int) -> tuple[Sample, ...]:
    samples = stream(task)
    return tuple(samples[index] for index in range(count))
