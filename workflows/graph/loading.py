"""Definitions from YAML and JSON. Nothing in a file is run; functions come from modules that were allowed."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from superlink.router.errors import InputError
from superlink.workflows.graph.definition import Graph, Handle, InputNode, Node, Step
from superlink.workflows.graph.errors import Problem, WorkflowError
from superlink.workflows.graph.parsing import parsed
from superlink.workflows.graph.policies import Policies, Retry, policies_with
from superlink.workflows.graph.port_types import from_name
from superlink.workflows.graph.saving import VERSION

_POLICIES = ("retry", "timeout", "cache", "seed")
_TOP = ("version", "name", "description", "inputs", "steps", "outputs")


def read(path: str | os.PathLike[str], *, allow: Sequence[str] = ()) -> Graph:
    """The definition in a file.

    Raises:
        InputError: the file cannot be read.
        WorkflowError: it is not a workflow; names the place.
    """
    return from_data(parsed(path), allow=allow, where=os.fspath(path))


def from_data(data: Any, *, allow: Sequence[str] = (), where: str = "") -> Graph:
    """The definition in plain data.

    Args:
        data: as `saving.to_data` makes it.
        allow: modules, with all below them, whose functions may be used.
        where: the file, for messages.

    Raises:
        WorkflowError: it is not a workflow; names the place, what was expected and what came.
    """
    reader = _Reader(tuple(allow), f"{where}: " if where else "")
    top = reader.mapping(data, "the workflow", _TOP)
    version = top.get("version")
    if version != VERSION or isinstance(version, bool):
        raise reader.wrong("version", f"version {VERSION}", f"{version!r}")
    return reader.graph({key: value for key, value in top.items() if key != "version"}, "")


class _Reader:
    """One file: which modules it may use, and how its places are called."""

    def __init__(self, allow: tuple[str, ...], file: str) -> None:
        self.allow = allow
        self.file = file

    def wrong(self, place: str, expected: str, given: str) -> WorkflowError:
        step = place.split(".")[1] if place.startswith("steps.") else ""
        message = f"{self.file}{place}: expected {expected}, got {given}"
        return WorkflowError(
            [Problem(message=message, step=step, port=_port(place), expected=expected, given=given)]
        )

    def mapping(self, data: Any, place: str, known: Sequence[str] | None = None) -> dict[str, Any]:
        """A mapping with names as keys, none of them unknown."""
        if not isinstance(data, Mapping):
            raise self.wrong(place, "a mapping", _shown(data))
        for key in data:
            if not isinstance(key, str):
                raise self.wrong(place, "names as keys", repr(key))
            if known is not None and key not in known:
                inside = "" if place == "the workflow" else f"{place}."
                raise self.wrong(
                    f"{inside}{key}", f"one of the fields {', '.join(known)}", "an unknown field"
                )
        return dict(data)

    def graph(self, data: Any, place: str) -> Graph:
        fields = self.mapping(data, place.rstrip(".") or "the workflow", _TOP[1:])
        name = self.text(fields.get("name"), f"{place}name")
        graph = Graph(name, description=self.text(fields.get("description", ""), f"{place}description"))
        known: dict[str, InputNode | Node] = {}
        for key, given in self.mapping(fields.get("inputs") or {}, f"{place}inputs").items():
            known[key] = self.input(graph, key, given, f"{place}inputs.{key}")
        pending: list[tuple[Node, Any, str]] = []
        for key, given in self.mapping(fields.get("steps") or {}, f"{place}steps").items():
            here = f"{place}steps.{key}"
            if key in known:
                raise self.wrong(here, "a name of its own", f"the name of an input, {key!r} (duplicate name)")
            step, policies, inputs = self.step(given, here)
            node = Node(
                name=key,
                step=step if isinstance(step, Step) else None,
                graph=step if isinstance(step, Graph) else None,
                policies=policies,
            )
            graph.join(node)
            known[key] = node
            pending.append((node, inputs, f"{here}.in"))
        for node, inputs, here in pending:  # a step may name one that stands below it
            for port, given in self.mapping(inputs, here).items():
                node.named[port] = self.bound(graph, known, given, f"{here}.{port}")
        for key, given in self.mapping(fields.get("outputs") or {}, f"{place}outputs").items():
            graph.output(key, self.handle(graph, known, given, f"{place}outputs.{key}"))
        return graph

    def input(self, graph: Graph, name: str, data: Any, place: str) -> InputNode:
        fields = self.mapping(data, place, ("type", "default", "description"))
        try:
            kind = from_name(fields.get("type", ""))
        except ValueError as error:
            raise self.wrong(f"{place}.type", "a type", str(error)) from error
        description = self.text(fields.get("description", ""), f"{place}.description")
        graph.input(name, kind, default=fields.get("default", ...), description=description)
        return graph.inputs[-1]

    def step(self, data: Any, place: str) -> tuple[Step | Graph, Policies, Any]:
        """What a step is, its policies, and its inputs as they are written."""
        fields = self.mapping(data, place, ("use", "with", "workflow", "function", "in", "name", *_POLICIES))
        use = self.text(fields.get("use"), f"{place}.use")
        if use == "workflow":
            self.only(fields, place, ("use", "workflow", "in"))
            return (
                self.graph(fields.get("workflow"), f"{place}.workflow."),
                Policies(),
                fields.get("in") or {},
            )
        if use == "function":
            self.only(fields, place, ("use", "function", "in", "name", *_POLICIES))
            step = self.function(fields.get("function"), f"{place}.function")
        else:
            self.only(fields, place, ("use", "with", "in", "name", *_POLICIES))
            step = self.made(use, fields.get("with") or {}, place)
        return step, self.policies(fields, place, step.policies), fields.get("in") or {}

    def only(self, fields: Mapping[str, Any], place: str, known: Sequence[str]) -> None:
        for key in fields:
            if key not in known:
                expected = f"one of the fields {', '.join(known)} with use: {fields['use']}"
                raise self.wrong(f"{place}.{key}", expected, "an unknown field")

    def made(self, use: str, given: Any, place: str) -> Step:
        """A step of the library."""
        makers = _makers()
        if use not in makers:
            raise self.wrong(
                f"{place}.use", f"one of {', '.join(sorted(makers))}, function, workflow", repr(use)
            )
        maker = makers[use]
        signature = inspect.signature(maker).parameters.values()
        known = [one.name for one in signature if one.kind is not inspect.Parameter.VAR_KEYWORD]
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature) and use in _asking():
            known += ["threshold", "max_new_tokens", "options"]
        values = self.mapping(given, f"{place}.with", known)
        for key in values:
            if key in ("condition", "until"):
                values[key] = self.condition(values[key], f"{place}.with.{key}")
            elif key in ("then", "otherwise", "body"):
                values[key] = self.body(values[key], f"{place}.with.{key}")
        many = next((one.name for one in signature if one.kind is inspect.Parameter.VAR_POSITIONAL), None)
        rest = values.pop(many, []) if many is not None else []
        if not isinstance(rest, list):
            raise self.wrong(f"{place}.with.{many}", "a list", _shown(rest))
        try:
            inspect.signature(maker).bind(*rest, **values)
        except TypeError as error:
            raise self.wrong(
                f"{place}.with", f"the fields {', '.join(known) or 'of no kind'}", str(error)
            ) from error
        try:
            made = maker(*rest, **values)
        except (InputError, TypeError, AttributeError) as error:
            raise self.wrong(f"{place}.with", "values that fit", str(error)) from error
        except WorkflowError as error:
            raise self.wrong(f"{place}.with", "bodies that fit", str(error)) from error
        assert isinstance(made, Step)
        return made

    def body(self, data: Any, place: str) -> Step | Graph:
        step, policies, inputs = self.step(data, place)
        if isinstance(step, Graph):
            return step
        constants = {
            port: self.constant(value, f"{place}.in.{port}")
            for port, value in self.mapping(inputs, f"{place}.in").items()
        }
        named = step if not data.get("name") else step.using(name=self.text(data["name"], f"{place}.name"))
        return replace(named, policies=policies, constants={**step.constants, **constants})

    def condition(self, data: Any, place: str) -> Any:
        from superlink.workflows.steps.conditions import compare

        fields = self.mapping(data, place, ("compare", "to", "function"))
        if "function" in fields:
            self.only({**fields, "use": "a function"}, place, ("function", "use"))
            found = self.function(fields["function"], f"{place}.function")
            return found.function
        try:
            return compare(fields.get("compare", ""), fields.get("to"))  # type: ignore[arg-type]  # it checks
        except InputError as error:
            raise self.wrong(place, "a comparison", str(error)) from error

    def function(self, path: Any, place: str) -> Step:
        """A user's function, of a module that was allowed."""
        module, _, name = self.text(path, place).partition(":")
        listed = ", ".join(self.allow) or "none"
        expected = f"a function of an allowed module ({listed})"
        if not self.allowed(module):
            raise self.wrong(place, expected, f"{path!r}; allow {module!r} if you trust it")
        if any(part.startswith("_") for part in name.split(".")):
            raise self.wrong(place, "a function without a leading '_'", repr(path))
        try:
            around: Any = None
            found: Any = import_module(module)
            for part in name.split("."):
                # What a module has imported is not its own: "module:os.system" would be any code.
                if around is not None and not inspect.isclass(found):
                    raise self.wrong(place, "a function of a module or of a class in it", repr(path))
                around, found = found, getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise self.wrong(place, "a function that can be imported", f"{path!r}: {error}") from error
        code = found.function if isinstance(found, Step) else found
        if not (inspect.isroutine(code) or inspect.isclass(code)):
            raise self.wrong(place, "a function", f"{path!r}, which is {_shown(found)}")
        home = getattr(code, "__module__", None)
        if not (isinstance(home, str) and self.allowed(home)):
            raise self.wrong(place, expected, f"{path!r}, which is defined in {home or 'no module'!r}")
        from superlink.workflows.steps.function import step

        return step(found)

    def allowed(self, module: str) -> bool:
        return any(module == one or module.startswith(f"{one}.") for one in self.allow)

    def policies(self, fields: Mapping[str, Any], place: str, own: Policies) -> Policies:
        """`own`, those of the step itself, with what the file says."""
        given = {key: fields[key] for key in _POLICIES if key in fields}
        try:
            if isinstance(given.get("retry"), Mapping):
                known = ("times", "wait", "backoff", "longest")
                given["retry"] = Retry(**self.mapping(given["retry"], f"{place}.retry", known))
            return policies_with(own, given)  # type: ignore[arg-type]  # it checks
        except InputError as error:
            raise self.wrong(place, "policies that fit", str(error)) from error

    def bound(self, graph: Graph, known: Mapping[str, InputNode | Node], given: Any, place: str) -> Any:
        if isinstance(given, list):
            return [self.bound(graph, known, one, place) for one in given]
        if isinstance(given, Mapping):
            return self.constant(given, place)
        return self.handle(graph, known, given, place)

    def constant(self, given: Any, place: str) -> Any:
        fields = self.mapping(given, place, ("value",))
        if "value" not in fields:
            raise self.wrong(place, "{value: ...}", "no value")
        return fields["value"]

    def handle(self, graph: Graph, known: Mapping[str, InputNode | Node], given: Any, place: str) -> Handle:
        name, _, output = self.text(given, place).partition(".")
        if name not in known:
            listed = ", ".join(known) or "none"
            raise self.wrong(place, f"the name of an input or step ({listed})", repr(given))
        return Handle(graph, known[name], output)

    def text(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            raise self.wrong(place, "words", "nothing" if value is None else _shown(value))
        return value


def _makers() -> dict[str, Callable[..., Any]]:
    """What `use` may name."""
    from superlink.workflows import steps

    others = ("Comparison", "Retry", "Step", "compare", "map", "step")  # no steps by themselves
    return {name: getattr(steps, name) for name in steps.__all__ if name not in others}


def _asking() -> tuple[str, ...]:
    from superlink.workflows.steps import routes

    return tuple(name for name in _makers() if getattr(routes, name, None) is _makers()[name])


def _port(place: str) -> str:
    return place.split(".in.")[1] if ".in." in place else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
