"""What is wrong with a definition, found before anything runs: names, ports, types, nesting, cycles.

A lineage says how a value is nested: the steps that opened its levels, outermost first. A step runs once
for every item of the deepest lineage among its inputs; values from further out are the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from superlink.workflows.graph.definition import Graph, InputNode
from superlink.workflows.graph.errors import Problem, WorkflowError
from superlink.workflows.graph.flatten import Bound, Constant, Flat, FlatGraph, Source, flatten
from superlink.workflows.graph.port_types import PortType, fits, holds, name_of, union_of
from superlink.workflows.graph.problems import mismatch

Lineage = tuple[Flat, ...]


@dataclass(slots=True, eq=False)
class CheckedStep:
    """A step whose inputs fit."""

    flat: Flat
    runs_in: Lineage
    gathered: list[bool]  # for every bound value: the list of all items of its innermost level
    returns: PortType  # of one item

    @property
    def lineage(self) -> Lineage:
        """Of what it gives."""
        opens = self.flat.step.opens or self.flat.step.filters
        return (*self.runs_in, self.flat) if opens else self.runs_in


@dataclass(slots=True, eq=False)
class Checked:
    """A graph that can run."""

    inputs: list[InputNode]
    steps: list[CheckedStep]  # each after those that it builds on
    outputs: list[tuple[str, Source, PortType, Lineage]]
    types: dict[int, PortType] = field(default_factory=dict)  # by id of step or input
    lineages: dict[int, Lineage] = field(default_factory=dict)


def levels_of(lineage: Lineage) -> int:
    """How many lists a value of this lineage is nested in; filters make lists shorter, not deeper."""
    return sum(flat.step.opens for flat in lineage)


def closed(lineage: Lineage) -> Lineage:
    """The lineage around the innermost list."""
    end = len(lineage)
    while end and lineage[end - 1].step.filters:
        end -= 1
    return lineage[: end - 1]


def check(graph: Graph) -> Checked:
    """The checked graph.

    Raises:
        WorkflowError: with everything that is wrong.
    """
    flat = flatten(graph)
    for node in graph.nodes:
        if node.graph is not None and not flat.problems:
            check(node.graph)  # it must make sense by itself: its inputs are single items
    problems = list(flat.problems)
    problems += _input_problems(flat.inputs)
    order = _ordered(flat, problems)
    if problems:
        raise WorkflowError(problems)
    checker = _Checker(flat, problems)
    for step in order:
        checker.step(step)
    if problems:
        raise WorkflowError(problems)
    checked = checker.checked
    checked.outputs = [
        (name, source, checked.types[id(source)], checked.lineages[id(source)])
        for name, source in flat.outputs
    ]
    return checked


def _input_problems(inputs: Sequence[InputNode]) -> list[Problem]:
    problems = []
    for node in inputs:
        if isinstance(node.type, str) or not (
            isinstance(node.type, type) or hasattr(node.type, "__module__")
        ):
            problems.append(
                Problem(
                    message=f"input {node.name!r}: expected a type such as Image, got {node.type!r}",
                    step=node.name,
                    expected="a type",
                    given=repr(node.type),
                )
            )
        elif node.default is not ... and not holds(node.default, node.type):
            given = type(node.default).__name__
            problems.append(
                Problem(
                    message=f"input {node.name!r}: expected a default of {name_of(node.type)}, got {given}",
                    step=node.name,
                    expected=name_of(node.type),
                    given=given,
                )
            )
    return problems


def _ordered(flat: FlatGraph, problems: list[Problem]) -> list[Flat]:
    """Steps in an order in which they can run."""
    sorter: TopologicalSorter[Flat] = TopologicalSorter()
    for step in flat.steps:
        sorter.add(step, *(bound.source for bound in step.bound if isinstance(bound.source, Flat)))
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = error.args[1][:-1]  # each is an input of the next
        first = min(range(len(circle)), key=lambda place: flat.steps.index(circle[place]))
        around = [step.name for step in (*circle[first:], *circle[: first + 1])]
        names = " → ".join(around)
        problems.append(
            Problem(
                message=f"step {around[0]!r}: expected no step to wait for itself, got a cycle {names}",
                step=around[0],
                expected="no step to wait for itself",
                given=f"a cycle {names}",
            )
        )
        return []


class _Checker:
    """Types and lineages, step after step."""

    def __init__(self, flat: FlatGraph, problems: list[Problem]) -> None:
        self.problems = problems
        self.checked = Checked(inputs=flat.inputs, steps=[], outputs=[])
        for node in flat.inputs:
            self.checked.types[id(node)] = node.type
            self.checked.lineages[id(node)] = ()

    def step(self, flat: Flat) -> None:
        """Check one step; what follows a wrong one is checked against what it would give."""
        gathered = [self._gathers(flat, bound) for bound in flat.bound]
        types: dict[str, PortType] = {}
        for bound, whole in zip(flat.bound, gathered, strict=True):
            given = self._given(flat, bound, whole)
            name = bound.port.name
            types[name] = union_of(types[name], given) if name in types else given
        runs_in = self._runs_in(flat, gathered)
        step = flat.step
        returns = step.infer(types) if step.infer is not None else step.returns
        if step.filters and levels_of(runs_in) == 0:
            port = flat.bound[-1].port.name if flat.bound else ""
            self.problems.append(
                mismatch(flat.name, port, "nested items", "a single item", "; use branch for a single one")
            )
        done = CheckedStep(flat=flat, runs_in=runs_in, gathered=gathered, returns=returns)
        self.checked.steps.append(done)
        self.checked.types[id(flat)] = returns
        self.checked.lineages[id(flat)] = done.lineage

    def _gathers(self, flat: Flat, bound: Bound) -> bool:
        if isinstance(bound.source, Constant) or bound.port.gathers == "no":
            return False
        levels = levels_of(self.checked.lineages.get(id(bound.source), ()))
        if bound.port.gathers == "alone":
            return levels > 0 and sum(one.port is bound.port for one in flat.bound) == 1
        if levels == 0:
            given = f"a single {name_of(self.checked.types.get(id(bound.source), Any))}"
            wanted = f"nested {name_of(bound.port.type)}"
            self.problems.append(mismatch(flat.name, bound.port.name, wanted, given, _from(bound.source)))
            return False
        return True

    def _given(self, flat: Flat, bound: Bound, whole: bool) -> PortType:
        """The type that comes to a port, of one item; the port's own where that is wrong."""
        port, source = bound.port, bound.source
        if isinstance(source, Constant):
            # By identity: arrays compare item by item, and what was left out is the default itself.
            optional = not port.required and source.value is port.default
            if not optional and not holds(source.value, port.type):
                self.problems.append(
                    mismatch(flat.name, port.name, port.type, f"the constant {source.value!r}")
                )
            return type(source.value) if port.type is Any else port.type
        given = self.checked.types[id(source)]
        if not fits(given, port.type):
            note = " items" if whole else ""
            self.problems.append(mismatch(flat.name, port.name, port.type, given, note + _from(source)))
            return port.type
        return port.type if given is Any else given

    def _runs_in(self, flat: Flat, gathered: Sequence[bool]) -> Lineage:
        deepest: Lineage = ()
        of: Bound | None = None
        for bound, whole in zip(flat.bound, gathered, strict=True):
            lineage = self.checked.lineages.get(id(bound.source), ())
            lineage = closed(lineage) if whole else lineage
            longer, shorter = (lineage, deepest) if len(lineage) > len(deepest) else (deepest, lineage)
            if longer[: len(shorter)] != shorter:
                first = "" if of is None else f" as port {of.port.name!r}"
                self.problems.append(
                    mismatch(
                        flat.name,
                        bound.port.name,
                        f"items of the same nesting{first} ({_path(deepest)})",
                        f"items of another ({_path(lineage)})",
                        _from(bound.source),
                    )
                )
            if len(lineage) > len(deepest):
                deepest, of = lineage, bound
        return deepest


def _path(lineage: Lineage) -> str:
    return " → ".join(flat.name for flat in lineage) or "none"


def _from(source: Source) -> str:
    return "" if isinstance(source, Constant) else f" from {source.name!r}"
