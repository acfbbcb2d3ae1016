"""What a workflow takes and gives, for people and for programs that build forms or tools from it."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture, Text
from superlink.workflows.graph.checking import check, levels_of
from superlink.workflows.graph.definition import Graph
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.port_types import PortType, name_of, origin_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: dict[Any, dict[str, Any]] = {
    Any: {},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
    list: {"type": "array"},
    type(None): {"type": "null"},
    Image: {"type": "string", "description": "Path of a picture file."},
}
_ARTIFACTS = (Boxes, Masks, Keypoints, Picture, Text)


def described(graph: Graph) -> dict[str, Any]:
    """Plain data about a checked graph.

    Raises:
        WorkflowError: the definition is wrong.
    """
    found = check(graph)
    return {
        "name": graph.name,
        "description": graph.description,
        "inputs": [
            {"name": node.name, "type": name_of(node.type), "required": node.default is ...}
            | ({"description": node.description} if node.description else {})
            for node in graph.inputs
        ],
        "outputs": [
            {"name": name, "type": name_of(kind), "nested": levels_of(lineage)}
            for name, _, kind, lineage in found.outputs
        ],
        "steps": [
            {
                "name": one.flat.name,
                "kind": one.flat.step.kind,
                "returns": name_of(one.returns),
                "nested": levels_of(one.lineage),
            }
            for one in found.steps
        ],
        "schema": {"input": schema_of(graph, "input"), "output": schema_of(graph, "output")},
    }


def schema_of(graph: Graph, side: Literal["input", "output"]) -> dict[str, Any]:
    """JSON schema of the values by name; artifacts have the form of `to_json()`."""
    fields: dict[str, dict[str, Any]] = {}
    if side == "input":
        for node in graph.inputs:
            own = dict(_schema(node.type))
            if node.description:
                own["description"] = node.description
            fields[node.name] = own
        required = [node.name for node in graph.inputs if node.default is ...]
    else:
        for name, _, kind, lineage in check(graph).outputs:
            fields[name] = _schema(kind)
            for _ in range(levels_of(lineage)):
                fields[name] = {"type": "array", "items": fields[name]}
        required = list(fields)
    return {
        "$schema": DRAFT,
        "title": f"{graph.name} {side}",
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": False,
    }


def model_of(graph: Graph, side: Literal["input", "output"]) -> type[BaseModel]:
    """A pydantic model of the values by name, which LangChain's tools read."""
    fields: dict[str, Any] = {}
    if side == "input":
        for node in graph.inputs:
            default = Field(
                default=... if node.default is ... else node.default, description=node.description or None
            )
            fields[node.name] = (_argument(node.type), default)
    else:
        for name, _, kind, _ in check(graph).outputs:
            fields[name] = (Any, Field(description=name_of(kind)))
    return create_model(f"{graph.name}_{side}", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)


def _argument(kind: PortType) -> Any:
    """What a caller from outside passes: for pictures a path, whatever else may come beside it."""
    if kind is Image:
        return str
    return kind if kind in _PLAIN else Any


def _schema(kind: PortType) -> dict[str, Any]:
    if origin_of(kind) in (Union, types.UnionType):
        return {"anyOf": [_schema(member) for member in get_args(kind)]}
    if origin_of(kind) is list:
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if kind in _ARTIFACTS:
        return {"type": "object", "title": name_of(kind), "required": ["type"]}
    return dict(_PLAIN.get(kind, {"title": name_of(kind)}))
