"""superlink: one multimodal LLM drives separate vision decoders through super-links.

    import superlink as sl

    system = sl.load("tiny")
    turn = system.ask("Find every red circle.", image="scene.png")
    turn.boxes.xyxy

Names are imported when they are first used: `import superlink` alone loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from superlink.agents.ray.engine import RayEngine
    from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement
    from superlink.agents.session import Session
    from superlink.agents.session_store import SessionStore
    from superlink.agents.system import System, load
    from superlink.agents.tools.budget import Budget, BudgetError
    from superlink.agents.tools.toolbox import Toolbox
    from superlink.agents.trace import Trace, trace
    from superlink.agents.turn import Turn
    from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, Picture, Text
    from superlink.decoders.contract import Failure
    from superlink.router.errors import (
        DataError,
        DecoderError,
        InputError,
        LinkError,
        ModelError,
        SuperlinkError,
    )
    from superlink.router.marks import draw_marks
    from superlink.router.messages import Box, Mask, Point, Prompt, Scribble
    from superlink.workflows import steps
    from superlink.workflows.graph.cache import DiskCache, MemoryCache
    from superlink.workflows.graph.errors import StepError, WorkflowError
    from superlink.workflows.graph.image import Image
    from superlink.workflows.graph.workflow import Workflow
    from superlink.workflows.planning.plan import Plan, PlanError
    from superlink.workflows.planning.planner import PlannerAgent

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Box",
    "Boxes",
    "Budget",
    "BudgetError",
    "DataError",
    "DecoderError",
    "DecoderPlacement",
    "DiskCache",
    "Failure",
    "Image",
    "InputError",
    "Keypoints",
    "LinkError",
    "Mask",
    "Masks",
    "MemoryCache",
    "ModelError",
    "Origin",
    "Picture",
    "Placement",
    "Plan",
    "PlanError",
    "PlannerAgent",
    "Point",
    "Prompt",
    "RayEngine",
    "RouterPlacement",
    "Scribble",
    "Session",
    "SessionStore",
    "StepError",
    "SuperlinkError",
    "System",
    "Text",
    "Toolbox",
    "Trace",
    "Turn",
    "Workflow",
    "WorkflowError",
    "__version__",
    "draw_marks",
    "load",
    "steps",
    "trace",
]

_HOMES = {
    "superlink.agents.ray.engine": ("RayEngine",),
    "superlink.agents.ray.placement": ("DecoderPlacement", "Placement", "RouterPlacement"),
    "superlink.agents.session": ("Session",),
    "superlink.agents.session_store": ("SessionStore",),
    "superlink.agents.system": ("System", "load"),
    "superlink.agents.tools.budget": ("Budget", "BudgetError"),
    "superlink.agents.tools.toolbox": ("Toolbox",),
    "superlink.agents.trace": ("Trace", "trace"),
    "superlink.agents.turn": ("Turn",),
    "superlink.decoders.artifacts": ("Artifact", "Boxes", "Keypoints", "Masks", "Origin", "Picture", "Text"),
    "superlink.decoders.contract": ("Failure",),
    "superlink.router.errors": (
        "DataError",
        "DecoderError",
        "InputError",
        "LinkError",
        "ModelError",
        "SuperlinkError",
    ),
    "superlink.router.marks": ("draw_marks",),
    "superlink.router.messages": ("Box", "Mask", "Point", "Prompt", "Scribble"),
    "superlink.workflows": ("steps",),
    "superlink.workflows.graph.cache": ("DiskCache", "MemoryCache"),
    "superlink.workflows.graph.errors": ("StepError", "WorkflowError"),
    "superlink.workflows.graph.image": ("Image",),
    "superlink.workflows.graph.workflow": ("Workflow",),
    "superlink.workflows.planning.plan": ("Plan", "PlanError"),
    "superlink.workflows.planning.planner": ("PlannerAgent",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every name for granted

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "steps":  # a module, which is an attribute of its package once it is imported
            import_module("superlink.workflows.steps")
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
