"""How a workflow is written down, checked and shown; running it is the business of `workflow`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from superlink.decoders.artifacts import Picture
from superlink.workflows.graph.checking import check
from superlink.workflows.graph.definition import Graph, Handle, Step
from superlink.workflows.graph.describing import described
from superlink.workflows.graph.errors import WorkflowError
from superlink.workflows.graph.plan import Plan, compiled
from superlink.workflows.graph.port_types import PortType, normal


class GraphBuilder:
    """A graph under construction."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._compiled: tuple[int, Plan] | None = None

    def input(self, name: str, type: PortType, *, default: object = ..., description: str = "") -> Handle:
        """Something the workflow is given: for an `Image` a path, bytes, Pillow image or array will do.

        Raises:
            WorkflowError: a name that LangChain's schemas cannot hold.
        """
        if str(name).startswith("_"):
            raise WorkflowError(f"workflow {self.graph.name!r}: input {name!r}: a name starts with a letter")
        return self.graph.input(name, normal(type), default=default, description=description)

    def add(self, step: Step, *values: Any, **named: Any) -> Handle:
        """Join a step to this workflow; the way for steps without inputs.

        Raises:
            WorkflowError: no step.
        """
        if not isinstance(step, Step):
            raise WorkflowError(
                f"workflow {self.graph.name!r}: add takes a step, got {type(step).__name__}; "
                f"steps.step makes one of a function"
            )
        return self.graph.add(step, values, named)

    def output(self, name: str, handle: Any) -> None:
        """Something the workflow gives."""
        self.graph.output(name, handle)

    def __call__(self, *values: Any, name: str = "", **named: Any) -> Handle:
        """This whole workflow as one step of another: called on handles, in the order of its inputs.

        Several outputs are told apart by `handle["name"]`.
        """
        around = next((one.graph for one in (*values, *named.values()) if isinstance(one, Handle)), None)
        if around is None:
            raise WorkflowError(
                f"workflow {self.graph.name!r} is called on handles of another workflow; use invoke to run it"
            )
        return around.add(self.graph, values, named, name=name)

    def check(self) -> None:
        """Refuse what cannot run, before anything does.

        Raises:
            WorkflowError: names step, port, expected and given type of everything that is wrong.
        """
        self._plan()

    def _plan(self) -> Plan:
        kept = self._compiled
        if kept is None or kept[0] != self.graph.state:
            kept = self.graph.state, compiled(check(self.graph))
            self._compiled = kept
        return kept[1]

    def describe(self) -> dict[str, Any]:
        """Inputs, outputs and steps as plain data, with JSON schemas of what goes in and out."""
        return described(self.graph)

    def to_data(self) -> dict[str, Any]:
        """The definition as plain data, the form that files have.

        Raises:
            WorkflowError: a step has no such form, such as a lambda.
        """
        from superlink.workflows.graph.saving import to_data

        return to_data(self.graph)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the definition: JSON for the suffix ".json", else YAML.

        Raises:
            WorkflowError: a step has no form in files, such as a lambda.
            InputError: the place cannot be written.
        """
        from superlink.workflows.graph.saving import save

        return save(self.graph, path)

    def mermaid(self) -> str:
        """The graph as Mermaid text."""
        from superlink.workflows.graph.drawing import mermaid

        return mermaid(self.graph)

    def draw(self) -> Picture:
        """The graph as a `Picture`, which saves itself as PNG."""
        from superlink.workflows.graph.drawing import picture

        return picture(self.graph)
