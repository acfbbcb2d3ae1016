"""Steps and workflows that run inside a step: the arms of a branch, the body of a loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from superlink.workflows.graph.checking import check, levels_of
from superlink.workflows.graph.context import StepContext
from superlink.workflows.graph.definition import Graph, Port, Step
from superlink.workflows.graph.errors import WorkflowError
from superlink.workflows.graph.frames import Item, result_of
from superlink.workflows.graph.inputs import Entry
from superlink.workflows.graph.plan import Plan, compiled
from superlink.workflows.graph.port_types import PortType, holds, list_of
from superlink.workflows.graph.results import errors_of
from superlink.workflows.graph.run import Run


class Body:
    """A step, or a graph with one output, by its ports."""

    def __init__(self, what: Any, role: str) -> None:
        graph = getattr(what, "graph", what)  # of a workflow
        if not isinstance(graph, Step | Graph):
            raise WorkflowError(f"{role} is a step or a workflow, got {type(what).__name__}")
        self.what = graph
        self.role = role
        self.graph = graph if isinstance(graph, Graph) else _around(graph)
        outputs = len(self.graph.outputs)
        if outputs != 1:
            raise WorkflowError(f"{role}: expected a workflow with one output, {self.name!r} has {outputs}")

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def ports(self) -> tuple[Port, ...]:
        return tuple(
            Port(
                name=node.name,
                type=node.type,
                required=node.default is ...,
                default=None if node.default is ... else node.default,
            )
            for node in self.graph.inputs
        )

    @cached_property
    def plan(self) -> Plan:
        return compiled(check(self.graph))

    @cached_property
    def returns(self) -> PortType:
        ((_, _, kind, lineage),) = check(self.graph).outputs
        for _ in range(levels_of(lineage)):
            kind = list_of(kind)
        return kind

    def run(self, values: Sequence[Any], context: StepContext, *, seed: int) -> Any:
        """What the body makes of values in the order of its ports.

        Args:
            values: for its ports.
            context: of the step that it is inside of.
            seed: of the run around, plus the number of the round in a loop.

        Raises:
            StepError: one of its steps failed, whether the result needs it or not.
        """
        given = {port.name: value for port, value in zip(self.ports, values, strict=False)}
        entry = Entry(0, given, seed, context.frame.item.observer)
        # A step inside may have a seed of its own, so the round is part of the way as well.
        way = f"{context.planned.name}/{context.frame.path}/{seed - context.run_seed}"
        run = Run(self.plan, context.shared.inside(way))
        (item,) = run.results(iter([entry]))
        assert isinstance(item, Item)
        for error in errors_of(self.plan, item):
            raise error
        return result_of(item, self.plan.outputs[0])


def _around(step: Step) -> Graph:
    """A graph of one step."""
    graph = Graph(step.name or step.kind)
    handles = {
        port.name: graph.input(port.name, port.type, default=... if port.required else port.default)
        for port in step.ports
        # What may be left out and has no value of its own type, such as refs, is left out.
        if port.name not in step.constants and (port.required or holds(port.default, port.type))
    }
    graph.output("result", graph.add(step, (), handles))
    return graph
