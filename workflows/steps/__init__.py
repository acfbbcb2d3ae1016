"""The steps of workflows: `from superlink import steps`."""

from __future__ import annotations

from superlink.workflows.graph.definition import Step
from superlink.workflows.graph.policies import Retry
from superlink.workflows.steps.artifacts import crop, draw, filter, mask_out, merge, select, stack, uncrop
from superlink.workflows.steps.conditions import Comparison, compare
from superlink.workflows.steps.flow import branch, each, gather, loop, map, where
from superlink.workflows.steps.function import step
from superlink.workflows.steps.routes import (
    ask,
    caption,
    count,
    detect,
    edit,
    generate,
    ground,
    instruct,
    pose,
    segment,
)

__all__ = [
    "Comparison",
    "Retry",
    "Step",
    "ask",
    "branch",
    "caption",
    "compare",
    "count",
    "crop",
    "detect",
    "draw",
    "each",
    "edit",
    "filter",
    "gather",
    "generate",
    "ground",
    "instruct",
    "loop",
    "map",
    "mask_out",
    "merge",
    "pose",
    "segment",
    "select",
    "stack",
    "step",
    "uncrop",
    "where",
]
