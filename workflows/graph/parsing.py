"""Text of YAML and JSON as plain data: nothing else can be written in it, and no name twice."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from superlink.router.errors import InputError
from superlink.workflows.graph.errors import WorkflowError

MOST_BYTES = 10_000_000
MOST_VALUES = 1_000_000
DEEPEST = 100  # brackets in each other
NOT_DATA = (yaml.YAMLError, ValueError, RecursionError)  # what texts that are no plain data raise


def parsed(path: str | os.PathLike[str]) -> Any:
    """The data in a file; ".json" says JSON, anything else YAML.

    Raises:
        InputError: the file cannot be read.
        WorkflowError: it is neither.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a workflow is read from the path of a file, got {type(path).__name__}")
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise InputError(f"workflow {str(file)!r} cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"workflow {str(file)!r} has more than {MOST_BYTES:,} bytes, so it is none")
    try:
        if file.suffix.lower() == ".json":
            return _bounded(json.loads(text, object_pairs_hook=_pairs))
        return data_of_yaml(text)
    except NOT_DATA as error:
        said = " ".join(str(error).split())
        raise WorkflowError(f"{file}: expected YAML or JSON of a workflow, got {said}") from error


def data_of_yaml(text: str) -> Any:
    """The data in a text of YAML.

    Raises:
        one of `NOT_DATA`: it is none, has a name twice, or is endless.
    """
    return _bounded(yaml.load(text, Loader=_Loader))


def _bounded(data: Any) -> Any:
    """The data as it is, unless aliases make it endless, or far larger than its text.

    Raises:
        ValueError: more than `MOST_VALUES`.
    """
    pending = [data]
    seen = 0
    while pending:
        one = pending.pop()
        inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else ()
        seen += len(inner)
        if seen > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values; aliases may repeat each other too often")
        pending += inner
    return data


class _Loader(yaml.SafeLoader):
    """Plain data alone, and no name twice: the later one would silently win."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        # What PyYAML does for every bracket grows with the number of open ones.
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(problem=f"more than {DEEPEST} brackets in each other")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A tag such as !!int says how a text is read, and what does not fit fails in many ways.
        if not self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs say nothing
            if event.tag is not None:
                line = event.start_mark.line + 1
                raise yaml.composer.ComposerError(
                    problem=f"a tag, {event.tag!r}, in line {line}; none is read"
                )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # merged mappings grow before they can be counted
                line = key.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    problem=f"a mapping merged with '<<' in line {line}; write its names out"
                )
            if isinstance(key.value, str) and key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} a second time (duplicate name) in line {line}"
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} a second time (duplicate name)")
        found[key] = value
    return found
