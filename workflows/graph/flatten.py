"""From a definition with sub-workflows to one flat list of steps, every value bound to its port.

A step of a sub-workflow is called by the path to it ("heads.detect"). Its inputs become steps that pass
their value on, so that types are checked where the outer workflow hands it over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from superlink.workflows.graph.definition import Graph, Handle, InputNode, Node, Port, Step
from superlink.workflows.graph.errors import Problem
from superlink.workflows.graph.policies import Policies
from superlink.workflows.graph.port_types import name_of
from superlink.workflows.graph.problems import missing, no_output, unknown

_NAME = re.compile(r"[^\W\d][\w-]*")


@dataclass(slots=True, eq=False)
class Constant:
    """A value that was written down."""

    value: Any


@dataclass(slots=True, eq=False)
class Bound:
    """What goes into a port of one step."""

    port: Port
    source: Flat | InputNode | Constant


@dataclass(slots=True, eq=False)
class Flat:
    """A step that will run, under its full name."""

    name: str
    step: Step
    policies: Policies
    bound: list[Bound] = field(default_factory=list)


Source = Flat | InputNode | Constant


@dataclass(slots=True, eq=False)
class FlatGraph:
    inputs: list[InputNode]
    steps: list[Flat]
    outputs: list[tuple[str, Source]]
    problems: list[Problem]


def flatten(graph: Graph) -> FlatGraph:
    """Every step of a graph and of the graphs in it; what cannot be bound is among the problems."""
    scope = _Scope(graph, "", {id(node): node for node in graph.inputs}, [])
    problems = list(_names(graph))
    steps = list(scope.build(problems))
    outputs: list[tuple[str, Source]] = []
    for name, handle in graph.outputs:
        if not isinstance(handle, Handle):
            problems.append(
                Problem(
                    message=f"output {name!r}: expected a handle, got {type(handle).__name__}",
                    step=name,
                    expected="a handle",
                    given=type(handle).__name__,
                )
            )
            continue
        source = scope.resolve(handle, f"output {name!r}", name, "", problems)
        if source is not None:
            outputs.append((name, source))
    return FlatGraph(inputs=graph.inputs, steps=steps, outputs=outputs, problems=problems)


def _names(graph: Graph) -> Iterator[Problem]:
    yield from graph.problems
    kinds = [("input", node.name) for node in graph.inputs] + [("step", node.name) for node in graph.nodes]
    for group in (kinds, [("output", name) for name, _ in graph.outputs]):
        seen: dict[str, str] = {}
        for kind, name in group:
            if not _is_name(name):
                yield Problem(
                    message=f"{kind} {name!r}: expected a name of letters, digits, '_' and '-' "
                    f"that starts with a letter",
                    step=str(name),
                    expected="a name",
                    given=repr(name),
                )
            elif name in seen:
                yield Problem(
                    message=f"{kind} {name!r}: expected a name of its own, got the name of {seen[name]} "
                    f"(duplicate name)",
                    step=name,
                    expected="a name of its own",
                    given=f"the name of {seen[name]}",
                )
            else:
                seen[name] = f"an {kind}" if kind[0] in "io" else f"a {kind}"
    if not graph.outputs:
        yield Problem(
            message=f"workflow {graph.name!r} has no output: expected an output, got none; "
            f"add one with output(name, handle)",
            expected="an output",
            given="none",
        )


class _Scope:
    """One graph on its way into the flat list: what its nodes became."""

    def __init__(
        self, graph: Graph, prefix: str, inputs: Mapping[int, Flat | InputNode], around: Sequence[Graph]
    ) -> None:
        self.graph = graph
        self.prefix = prefix
        self.inputs = inputs
        self.around = [*around, graph]
        self.flats: dict[int, Flat] = {}
        self.scopes: dict[int, _Scope] = {}

    def build(self, problems: list[Problem]) -> Iterator[Flat]:
        """Flat steps of this graph, in the order in which they were written down."""
        for node in self.graph.nodes:
            name = self.prefix + node.name
            if node.step is not None:
                self.flats[id(node)] = Flat(name, node.step, node.policies)
            elif node.graph is not None and node.graph in self.around:
                problems.append(
                    Problem(message=f"step {name!r}: workflow {node.graph.name!r} contains itself", step=name)
                )
            elif node.graph is not None:
                given = {
                    id(one): Flat(f"{name}.{one.name}", _passing(one), Policies())
                    for one in node.graph.inputs
                }
                self.scopes[id(node)] = _Scope(node.graph, f"{name}.", given, self.around)
        for node in self.graph.nodes:
            if id(node) in self.flats:
                flat = self.flats[id(node)]
                ports = flat.step.ports
                flat.bound = list(self._bound(node, flat.name, ports, flat.step.constants, problems))
                yield flat
            elif id(node) in self.scopes:
                yield from self._build_inner(node, self.scopes[id(node)], problems)

    def _build_inner(self, node: Node, inner: _Scope, problems: list[Problem]) -> Iterator[Flat]:
        name = self.prefix + node.name
        entries = [entry for entry in inner.inputs.values() if isinstance(entry, Flat)]
        ports = [entry.step.ports[0] for entry in entries]
        by_port = {bound.port.name: bound for bound in self._bound(node, name, ports, {}, problems)}
        for entry in entries:
            port = entry.step.ports[0]
            entry.bound = [by_port[port.name]] if port.name in by_port else []
            yield entry
        yield from inner.build(problems)

    def _bound(
        self,
        node: Node,
        name: str,
        ports: Sequence[Port],
        constants: Mapping[str, Any],
        problems: list[Problem],
    ) -> Iterator[Bound]:
        given: dict[str, list[Any]] = {port: [value] for port, value in constants.items()}
        known = {port.name: port for port in ports}
        many = next((place for place, port in enumerate(ports) if port.variadic), len(ports))
        for place, value in enumerate(node.positional):
            if many == len(ports) <= place:
                problems.append(unknown(name, f"number {place + 1}", ports))
                continue
            port = ports[min(place, many)]
            if place <= many:
                given[port.name] = []
            given[port.name].append(value)
        for key, value in node.named.items():
            if key not in known:
                problems.append(unknown(name, key, ports))
            elif key in given and key not in constants:
                problems.append(
                    Problem(
                        message=f"step {name!r}, port {key!r}: expected one value, got two values",
                        step=name,
                        port=key,
                        expected="one value",
                        given="two values",
                    )
                )
            else:
                listed = known[key].variadic and isinstance(value, list | tuple)
                given[key] = list(value) if listed else [value]
        for port in ports:
            if not given.get(port.name):
                if port.required:
                    problems.append(missing(name, port))
                elif not port.variadic:
                    yield Bound(port, Constant(port.default))
            yield from self._sources(given.get(port.name, ()), port, name, problems)

    def _sources(
        self, values: Sequence[Any], port: Port, name: str, problems: list[Problem]
    ) -> Iterator[Bound]:
        """What was given to one port."""
        for value in values:
            if isinstance(value, list | tuple) and any(isinstance(one, Handle) for one in value):
                problems.append(_listed(name, port))
            elif not isinstance(value, Handle):
                yield Bound(port, Constant(value))
            else:
                place = f"step {name!r}, port {port.name!r}"
                source = self.resolve(value, place, name, port.name, problems)
                if source is not None:
                    yield Bound(port, source)

    def resolve(
        self, handle: Handle, place: str, step: str, port: str, problems: list[Problem]
    ) -> Source | None:
        """What a handle of this graph stands for; None where that is a problem."""
        node = handle.node
        if handle.graph is not self.graph or not self._knows(node):
            given = f"{handle.place!r} of workflow {handle.graph.name!r}"
            problems.append(
                Problem(
                    message=f"{place}: expected a handle of workflow {self.graph.name!r}, got {given}",
                    step=step,
                    port=port,
                    expected=f"a handle of workflow {self.graph.name!r}",
                    given=given,
                )
            )
            return None
        if id(node) in self.scopes:
            inner = self.scopes[id(node)]
            outputs = dict(inner.graph.outputs)
            chosen = handle.output or (next(iter(outputs)) if len(outputs) == 1 else "")
            if chosen in outputs and isinstance(outputs[chosen], Handle):
                return inner.resolve(outputs[chosen], place, step, port, problems)
            wanted = f"one of the outputs {', '.join(outputs) or '(none)'}"
            problems.append(no_output(place, step, port, wanted, handle))
            return None
        if handle.output:
            problems.append(no_output(place, step, port, "a step with a single result", handle))
            return None
        return self.inputs[id(node)] if id(node) in self.inputs else self.flats.get(id(node))

    def _knows(self, node: InputNode | Node) -> bool:
        return any(id(node) in known for known in (self.inputs, self.flats, self.scopes)) or any(
            node is one for one in self.graph.nodes
        )


def _listed(step: str, port: Port) -> Problem:
    expected = f"a handle of {name_of(port.type)}, or a constant"
    given = "handles in a list; a step that takes them one by one can make the list"
    message = f"step {step!r}, port {port.name!r}: expected {expected}, got {given}"
    return Problem(message=message, step=step, port=port.name, expected=expected, given=given)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _passing(node: InputNode) -> Step:
    port = Port(
        name=node.name,
        type=node.type,
        required=node.default is ...,
        default=None if node.default is ... else node.default,
    )
    return Step(kind="input", ports=(port,), run=_same, returns=node.type, light=True)


def _same(value: Any) -> Any:
    return value
