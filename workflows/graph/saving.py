"""Definitions as plain data, YAML and JSON.

    version: 1
    name: helmets
    inputs:
      photo: {type: Image}
    steps:
      people: {use: detect, with: {phrases: [person]}, in: {image: photo}, retry: 2}
      heads: {use: crop, in: {image: photo, items: people}}
    outputs:
      heads: heads

`in` names inputs and steps ("sub.boxes": one output of a sub-workflow); `{value: 3}` is a constant. A
user's function is named by where it is imported from, and a file may only name what its reader allows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from superlink.decoders.files import write_whole
from superlink.workflows.graph.checking import check
from superlink.workflows.graph.definition import Graph, Handle, Node, Step
from superlink.workflows.graph.errors import Problem, WorkflowError
from superlink.workflows.graph.policies import Policies, Retry
from superlink.workflows.graph.port_types import is_named, name_of

VERSION = 1


def save(graph: Graph, path: str | os.PathLike[str]) -> Path:
    """Write a definition, whole or not at all; ".json" says JSON, anything else YAML.

    Raises:
        WorkflowError: something has no form in files.
        InputError: the place cannot be written.
    """
    target, data = Path(path), to_data(graph)
    if target.suffix.lower() == ".json":
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    return write_whole(target, text.encode())


def to_data(graph: Graph) -> dict[str, Any]:
    """Plain data that `loading.from_data` takes back.

    Raises:
        WorkflowError: it is wrong, or something has no form in files: a lambda, or a type of the user's own.
    """
    _refuse_circles(graph, ())
    check(graph)  # of two things with one name a file would keep the last
    return {"version": VERSION, **_graph(graph)}


def _refuse_circles(graph: Graph, around: tuple[Graph, ...]) -> None:
    if any(graph is one for one in around):
        raise _refused(graph.name, f"workflow {graph.name!r} contains itself")
    for node in graph.nodes:
        bodies = [node.graph] if node.step is None else list(node.step.bodies.values())
        for inner in bodies:
            if isinstance(inner, Graph):
                _refuse_circles(inner, (*around, graph))


def _graph(graph: Graph) -> dict[str, Any]:
    data: dict[str, Any] = {"name": graph.name}
    if graph.description:
        data["description"] = graph.description
    data["inputs"] = {}
    for node in graph.inputs:
        if not is_named(node.type):
            raise _refused(node.name, f"type {name_of(node.type)} is not one that a file can name")
        data["inputs"][node.name] = {"type": name_of(node.type)}
        if node.default is not ...:
            data["inputs"][node.name]["default"] = _constant(node.default, node.name)
        if node.description:
            data["inputs"][node.name]["description"] = node.description
    data["steps"] = {node.name: _node(node) for node in graph.nodes}
    data["outputs"] = {name: _source(handle, name) for name, handle in graph.outputs}
    return data


def _node(node: Node) -> dict[str, Any]:
    if node.graph is not None:
        ports = [one.name for one in node.graph.inputs]
        data: dict[str, Any] = {"use": "workflow", "workflow": _graph(node.graph)}
        variadic = ""
    else:
        assert node.step is not None
        data = step_data(node.step, node.name)
        ports = [port.name for port in node.step.ports]
        variadic = next((port.name for port in node.step.ports if port.variadic), "")
    bound: dict[str, Any] = {} if node.step is None else dict(node.step.constants)
    last = ports.index(variadic) if variadic else len(ports)
    for place, value in enumerate(node.positional):
        port = ports[min(place, last)] if place < len(ports) or variadic else f"number {place + 1}"
        if port == variadic:
            bound.setdefault(port, []).append(value)
        else:
            bound[port] = value
    bound |= node.named
    data["in"] = {port: _bound(value, node.name) for port, value in bound.items()}
    return data | policy_data(node.policies, _usual(node.step))


def step_data(step: Step, name: str) -> dict[str, Any]:
    """What a step is, without its inputs and policies."""
    if step.function is not None:
        return {"use": "function", "function": _import_path(step.function, name)}
    data: dict[str, Any] = {"use": step.kind}
    given: dict[str, Any] = {}
    for key, value in step.parameters.items():
        if key in ("condition", "until"):
            given[key] = _condition(value, name)
        elif value is not None:
            given[key] = _constant(value, name)
    for role, body in step.bodies.items():
        given[role] = _body(body, name)
    return data | ({"with": given} if given else {})


def _body(body: Any, name: str) -> dict[str, Any]:
    if isinstance(body, Graph):
        return {"use": "workflow", "workflow": _graph(body)}
    own: dict[str, Any] = {"name": body.name} if body.name else {}
    constants = {port: _bound(value, name) for port, value in body.constants.items()}
    inputs = {"in": constants} if constants else {}
    return own | step_data(body, name) | inputs | policy_data(body.policies, _usual(body))


def _usual(step: Step | None) -> Policies:
    """What a step has on loading where the file says nothing."""
    function = None if step is None else step.function
    if function is None:
        return Policies()
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found.policies if isinstance(found, Step) else Policies()


def policy_data(policies: Policies, usual: Policies) -> dict[str, Any]:
    """Policies that are not the usual ones."""
    data: dict[str, Any] = {}
    if policies.retry != usual.retry:
        simple = policies.retry == Retry(times=policies.retry.times)
        data["retry"] = policies.retry.times if simple else asdict(policies.retry)
    if policies.timeout != usual.timeout:
        data["timeout"] = policies.timeout
    if policies.cache != usual.cache:
        data["cache"] = policies.cache
    if policies.seed != usual.seed:
        data["seed"] = policies.seed
    return data


def _bound(value: Any, name: str) -> Any:
    if isinstance(value, Handle):
        return _source(value, name)
    if isinstance(value, list | tuple) and any(isinstance(one, Handle) for one in value):
        return [_bound(one, name) for one in value]
    return {"value": _constant(value, name)}


def _source(handle: Any, name: str) -> str:
    if not isinstance(handle, Handle):
        raise _refused(name, f"{handle!r} is no handle")
    return handle.place


def _condition(condition: Any, name: str) -> dict[str, Any]:
    from superlink.workflows.steps.conditions import Comparison

    if isinstance(condition, Comparison):
        return {"compare": condition.operator, "to": condition.to}
    return {"function": _import_path(condition, name)}


def _constant(value: Any, name: str) -> Any:
    """The value as it comes back from a file."""
    try:
        plain = json.loads(json.dumps(value, default=_mapping))
    except (TypeError, ValueError) as error:
        raise _refused(name, f"{value!r} is not plain data") from error
    if not _named_throughout(value):
        raise _refused(name, f"{value!r} has keys that are no words, which would become words in a file")
    return plain


def _named_throughout(value: Any) -> bool:
    """Whether all keys in a value are words."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _named_throughout(one) for key, one in value.items())
    return not isinstance(value, list | tuple) or all(_named_throughout(one) for one in value)


def _mapping(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def _import_path(function: Callable[..., Any], name: str) -> str:
    module, path = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not path or "<" in path or module == "__main__":
        what = path or type(function).__name__
        raise _refused(
            name,
            f"{what!r} of {module or 'nowhere'!r} cannot be imported; a file can name functions of modules, "
            f"and steps.compare in place of small conditions",
        )
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is not function and getattr(found, "function", None) is not function:
        raise _refused(name, f"{module}:{path} is something else by now")
    return f"{module}:{path}"


def _refused(name: str, reason: str) -> WorkflowError:
    return WorkflowError([Problem(message=f"step {name!r} cannot be saved: {reason}", step=name)])
