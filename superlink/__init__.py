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
    from superlink.agents.system import System, load
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

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Box",
    "Boxes",
    "DataError",
    "DecoderError",
    "DecoderPlacement",
    "Failure",
    "InputError",
    "Keypoints",
    "LinkError",
    "Mask",
    "Masks",
    "ModelError",
    "Origin",
    "Picture",
    "Placement",
    "Point",
    "Prompt",
    "RayEngine",
    "RouterPlacement",
    "Scribble",
    "Session",
    "SuperlinkError",
    "System",
    "Text",
    "Trace",
    "Turn",
    "__version__",
    "draw_marks",
    "load",
    "trace",
]

_HOMES = {
    "superlink.agents.ray.engine": ("RayEngine",),
    "superlink.agents.ray.placement": ("DecoderPlacement", "Placement", "RouterPlacement"),
    "superlink.agents.session": ("Session",),
    "superlink.agents.system": ("System", "load"),
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
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every name for granted

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
