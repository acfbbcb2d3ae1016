"""Hashes of what a value follows from: the step with its parameters, its inputs, the system."""

from __future__ import annotations

import hashlib
import inspect
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from superlink.agents.pictures import SourcePicture

if TYPE_CHECKING:
    from superlink.agents.system import System
    from superlink.workflows.graph.definition import Step


class _Unknown(Exception):
    """Something that has no content to hash."""


@dataclass(slots=True, eq=False)
class _State:
    """What was fed so far."""

    names: bool  # those of pictures too
    functions: dict[int, int] = field(default_factory=dict)  # by id: which function it was
    sha: Any = field(default_factory=hashlib.sha256)

    def update(self, data: bytes) -> None:
        self.sha.update(data)


def digest(value: Any, *, names: bool = False) -> str | None:
    """A hash of the content of a value; None where it holds itself or something of an unknown kind.

    Args:
        value: of a step, or what a step is made of.
        names: pictures of another name are others. A user's function may read the name of a picture;
            the library's own steps look at its pixels alone.
    """
    state = _State(names)
    try:
        _add(state, value)
    except (_Unknown, RecursionError):
        return None
    return str(state.sha.hexdigest())


def step_identity(step: Step) -> str | None:
    """A hash of what a step does: its kind, parameters and, of a user's function, the code.

    What a function reads from elsewhere, such as globals and files, is not part of it.
    """
    parts: list[Any] = [step.kind, dict(step.parameters)]
    if step.asks is not None:
        parts += [repr(step.asks.settings)]
    if step.function is not None:
        parts.append(_Code(step.function))
    return digest(parts, names=True)


def system_identity(system: System) -> str:
    """A hash of a system's name and the configurations of its decoders."""
    decoders = [config.to_json() for config in getattr(system, "decoders", ())]
    text = json.dumps([getattr(system, "name", ""), decoders], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class _Code:
    """A function, for its code."""

    def __init__(self, function: Any) -> None:
        self.function = function  # a wrapper as it is: what it adds is part of what the step does


def _add(state: _State, value: Any) -> None:
    """Feed a value with its type, so that nothing of another type or shape hashes alike."""
    state.update(type(value).__qualname__.encode() + b":")
    match value:
        case None | bool() | int() | str():
            state.update(repr(value).encode())
        case float():
            state.update(struct.pack("<d", value))
        case bytes():
            state.update(struct.pack("<Q", len(value)) + value)
        case np.generic() | np.ndarray():
            array = np.asarray(value)
            if array.dtype.hasobject:
                raise _Unknown
            state.update(f"{array.dtype.str}{array.shape}".encode())
            state.update(np.ascontiguousarray(array).tobytes())
        case SourcePicture():  # its id is a hash of its pixels
            state.update(value.id.encode())
            _add(state, getattr(value, "window", None))
            if state.names:
                _add(state, value.name)
        case list() | tuple():
            state.update(struct.pack("<Q", len(value)))
            for one in value:
                _add(state, one)
        case Mapping():
            _add_mapping(state, value)
        case _Code():
            _add_function(state, value.function)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for one in fields(value):
                _add(state, getattr(value, one.name))
        case _:
            raise _Unknown
    state.update(b";")


def _add_mapping(state: _State, value: Mapping[Any, Any]) -> None:
    if not all(isinstance(key, str) for key in value):
        raise _Unknown
    for key in sorted(value):
        _add(state, key)
        _add(state, value[key])


def _add_function(state: _State, function: Any) -> None:
    if isinstance(function, MethodType):
        _add(state, function.__self__)
        function = function.__func__
    if id(function) in state.functions:  # a closure may hold itself
        state.update(f"function {state.functions[id(function)]};".encode())
        return
    state.functions[id(function)] = len(state.functions)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        raise _Unknown
    _add(state, [function.__module__, function.__qualname__, function.__defaults__, function.__kwdefaults__])
    _add_code(state, code)
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # nothing is in it yet
            raise _Unknown from None
        if inspect.isroutine(content):
            _add_function(state, content)
        else:
            _add(state, content)


def _add_code(state: _State, code: CodeType) -> None:
    _add(state, [code.co_code, list(code.co_names), len(code.co_consts)])
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(state, constant)
        elif isinstance(constant, frozenset):
            _add(state, sorted(map(repr, constant)))
        else:
            _add(state, repr(constant))  # with its end, or 1 and 23 would be 12 and 3
