"""What a workflow is given, put into the form that its steps take."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from PIL import Image as Pillow

from superlink.agents.pictures import SourcePicture
from superlink.decoders.artifacts import Picture
from superlink.workflows.graph.definition import InputNode, Step
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.plan import Fixed, Plan, Planned
from superlink.workflows.graph.policies import Policies
from superlink.workflows.graph.port_types import check_of, holds, name_of, origin_of

_PICTURES = (str, os.PathLike, bytes, Pillow.Image, np.ndarray, SourcePicture, Picture)


@dataclass(slots=True, eq=False)
class Entry:
    """One input on its way in."""

    index: int
    given: Any  # a mapping from names of inputs, or a bare value where there is one input
    seed: int = 0
    observer: Any = None


def begin(plan: Plan, entry: Entry) -> tuple[list[tuple[int, Any]], list[Planned]]:
    """Values of inputs by slot, and steps that read those that are files or bytes."""
    values: list[tuple[int, Any]] = []
    readings: list[Planned] = []
    given = by_name(plan, entry.given)
    if isinstance(given, StepError):
        return [(slot, given) for _, slot in plan.inputs], []
    for node, slot in plan.inputs:
        value = given.get(node.name, node.default)
        if value is ...:
            cause = f"expected a value of {name_of(node.type)}, got nothing (missing input)"
            values.append((slot, StepError(node.name, cause, kind="input")))
        elif holds(value, node.type):
            values.append((slot, value))
        elif (reader := _reader(value, node.type)) is not None:
            readings.append(_reading(plan, node, slot, value, reader))
        else:
            cause = f"expected {name_of(node.type)}, got {type(value).__name__}"
            values.append((slot, StepError(node.name, cause, kind="input")))
    return values, readings


def by_name(plan: Plan, given: Any) -> Mapping[str, Any] | StepError:
    """Values by names of inputs."""
    names = [node.name for node, _ in plan.inputs]
    named = isinstance(given, Mapping) and all(isinstance(key, str) for key in given)
    if len(names) == 1 and not (named and names[0] in given):
        (node, _), *_ = plan.inputs
        if not (named and not given) and (not named or holds(given, node.type)):
            return {names[0]: given}
    if not named:
        if not names and given is None:
            return {}
        cause = f"expected values for {', '.join(names) or 'no input'}, got {type(given).__name__}"
        return StepError(names[0] if names else "", cause, kind="input")
    unknown = [name for name in given if name not in names]
    if unknown:
        cause = f"expected values for {', '.join(names) or 'no input'}, got one for {unknown[0]!r}"
        return StepError(unknown[0], cause, kind="input")
    return dict(given)


def _reader(value: Any, kind: Any) -> Callable[[Any], Any] | None:
    """How a value becomes one of a type; None where it cannot."""
    members = get_args(kind) if origin_of(kind) is not list and get_args(kind) else (kind,)
    if Image in members and isinstance(value, _PICTURES):
        return Image.of
    for member in members:
        if origin_of(member) is list and isinstance(value, list | tuple):
            (element,) = get_args(member)
            if element is Image and all(isinstance(one, _PICTURES) for one in value):
                return _images
    return None


def _images(pictures: Any) -> list[Image]:
    return [Image.of(picture) for picture in pictures]


def _reading(plan: Plan, node: InputNode, slot: int, value: Any, reader: Callable[[Any], Any]) -> Planned:
    """A step that reads one value into an input's slot."""
    return Planned(
        name=node.name,
        step=Step(kind="input", ports=(), run=reader),
        policies=Policies(cache=False),
        region=plan.root,
        slot=slot,
        number=0,
        reads=(Fixed(value),),
        fits=check_of(node.type),
        returns=node.type,
        plain=True,
    )
