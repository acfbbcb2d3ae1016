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


def parsed(path: str | os.PathLike[str]) -> Any:
    """The data in a file; ".json" says JSON, anything else YAML.

    Raises:
        InputError: the file cannot be read.
        WorkflowError: it is neither.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"workflow {str(file)!r} cannot be read: {error}") from error
    try:
        if file.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_pairs)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise WorkflowError(f"{file}: expected YAML or JSON of a workflow, got {said}") from error


class _Loader(yaml.SafeLoader):
    """Plain data alone, and no name twice: the later one would silently win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key.value, str):
                line = key.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} a second time (duplicate name) in line {line}"
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for place, (key, _) in enumerate(pairs):
        if any(key == other for other, _ in pairs[:place]):
            raise ValueError(f"{key!r} a second time (duplicate name)")
    return dict(pairs)
