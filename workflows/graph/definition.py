"""The definition of a workflow: steps, handles for what they will give, and how they are joined.

Nothing is refused while a graph is built; `checking` finds everything that is wrong at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

from typing_extensions import Self, Unpack

from superlink.workflows.graph.asks import Asks
from superlink.workflows.graph.errors import Problem, WorkflowError
from superlink.workflows.graph.policies import Policies, PolicyOptions, policies_with
from superlink.workflows.graph.port_types import PortType, name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One thing that a step takes."""

    name: str
    type: PortType = Any
    # "yes": all items of the innermost level, as a list; "alone": so if it is the only one that is bound.
    gathers: Literal["no", "yes", "alone"] = "no"
    skips_failed: bool = False  # items of the level that failed are left out of the list
    variadic: bool = False  # any number of handles, at least one if it is required; later ports go by name
    required: bool = True
    default: object = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Something that can be done, ready to be called on handles (or, for a function, on plain values)."""

    kind: str  # "detect", or the name of a user's function
    ports: tuple[Port, ...]
    run: Callable[..., Any]  # (*values) in the order of ports; (context, *values) if `contextual`
    returns: PortType = Any
    infer: Callable[[Mapping[str, PortType]], PortType] | None = None  # `returns` by the types that came
    contextual: bool = False
    opens: bool = False  # gives a list, whose items every later step takes one by one
    filters: bool = False  # gives (kept, value): items of the innermost level that are not kept end here
    light: bool = False  # not worth a thread of its own
    asks: Asks | None = None  # answered by the system, together with others
    parameters: Mapping[str, Any] = field(default_factory=dict)  # as its maker takes them
    function: Callable[..., Any] | None = None  # of the user
    bodies: Mapping[str, Any] = field(default_factory=dict)  # steps and workflows inside this one
    constants: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    policies: Policies = field(default_factory=Policies)

    def using(self, **options: Unpack[PolicyOptions]) -> Self:
        """The same step under another name or with other policies.

        Raises:
            InputError: a value cannot be used.
        """
        return replace(
            self, name=options.get("name", self.name), policies=policies_with(self.policies, options)
        )

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Join the step to a graph: handles in the order of its ports or by their names.

        Beside handles, plain values are constants. A user's function that gets no handle at all is
        simply called, or, while values are missing, remembers those that it got.
        """
        graph = _graph_of(*values, *named.values())
        if graph is not None:
            return graph.add(self, values, named)
        if self.function is not None:
            if values or self._covered(named):
                return self.function(*values, **{**self.constants, **named})
            return replace(self, constants={**self.constants, **named})
        raise WorkflowError(
            f"step {self.name or self.kind!r} is called on handles, such as what Workflow.input gives, "
            f"got {', '.join(type(value).__name__ for value in (*values, *named.values())) or 'nothing'}; "
            f"a step without inputs joins a workflow by Workflow.add"
        )

    def _covered(self, named: Mapping[str, Any]) -> bool:
        given = {**self.constants, **named}
        return bool(given) and all(port.name in given for port in self.ports if port.required)


@dataclass(slots=True, kw_only=True, eq=False)
class InputNode:
    """What a workflow is given."""

    name: str
    type: PortType
    default: object = ...  # ...: none
    description: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A step or a whole graph in a graph, with what goes into it."""

    name: str
    step: Step | None = None
    graph: Graph | None = None
    positional: tuple[Any, ...] = ()  # handles and constants
    named: dict[str, Any] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)


class Handle:
    """What an input or a step will give, before anything runs."""

    __slots__ = ("graph", "node", "output")

    def __init__(self, graph: Graph, node: InputNode | Node, output: str = "") -> None:
        self.graph = graph
        self.node = node
        self.output = output  # of a sub-workflow with several

    def __getitem__(self, output: str) -> Handle:
        """One output of a sub-workflow."""
        return Handle(self.graph, self.node, output)

    def __repr__(self) -> str:
        return f"<handle {self.place} of workflow {self.graph.name!r}>"

    @property
    def place(self) -> str:
        """ "people", or "sub.boxes"."""
        return f"{self.node.name}.{self.output}" if self.output else self.node.name

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no items before it runs; steps take nested items one by one")

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no value before it runs; use steps.branch in place of `if`")


class Graph:
    """Inputs, nodes and outputs as they were written down."""

    def __init__(self, name: str, *, description: str = "") -> None:
        self.name = name
        self.description = description
        self.inputs: list[InputNode] = []
        self.nodes: list[Node] = []
        self.outputs: list[tuple[str, Any]] = []
        self.problems: list[Problem] = []  # seen while building
        self.version = 0  # counts changes, so that nothing is checked twice

    def input(self, name: str, type: PortType, *, default: object = ..., description: str = "") -> Handle:
        node = InputNode(name=name, type=type, default=default, description=description)
        self.inputs.append(node)
        self.version += 1
        return Handle(self, node)

    def add(
        self,
        what: Step | Graph,
        positional: tuple[Any, ...],
        named: Mapping[str, Any],
        *,
        name: str = "",
    ) -> Handle:
        """A node for a step or a graph; without a name of its own it gets a free one."""
        wanted = name or (what.name if isinstance(what, Step) else "")
        node = Node(
            name=wanted or self._free(what.kind if isinstance(what, Step) else what.name),
            step=what if isinstance(what, Step) else None,
            graph=what if isinstance(what, Graph) else None,
            positional=positional,
            named=dict(named),
            policies=what.policies if isinstance(what, Step) else Policies(),
        )
        return self.join(node)

    def join(self, node: Node) -> Handle:
        """Take a node in as it is."""
        self.nodes.append(node)
        self.version += 1
        return Handle(self, node)

    @property
    def state(self) -> int:
        """Another number after every change, in this graph or in one that is part of it."""
        graphs: list[Graph] = [self]
        for graph in graphs:
            graphs += [node.graph for node in graph.nodes if node.graph and node.graph not in graphs]
        return sum(graph.version for graph in graphs)

    def output(self, name: str, handle: Any) -> None:
        self.outputs.append((name, handle))
        self.version += 1

    def _free(self, stem: str) -> str:
        taken = {node.name for node in self.inputs} | {node.name for node in self.nodes}
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        return name


def _graph_of(*values: Any) -> Graph | None:
    return next((value.graph for value in values if isinstance(value, Handle)), None)


def describe_port(port: Port) -> str:
    """The type of a port as messages name it."""
    kind = name_of(port.type)
    return f"nested {kind}" if port.gathers == "yes" else kind
