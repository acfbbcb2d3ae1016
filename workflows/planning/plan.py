"""A plan: calls of tools in order, where later ones name what earlier ones will give.

Nothing has run yet. "$step1" stands for the artifact that step1 will give and "$step1[0,2]" for items
of it; ids such as "picture-1" are those that the toolbox already knows. A plan is plain data: it can be
shown, written as YAML, changed and checked before it costs anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from superlink.agents.tools.specs import ToolSpec, spec_of
from superlink.agents.tools.toolbox import Toolbox, checked
from superlink.decoders.artifacts import Picture
from superlink.router.errors import InputError, SuperlinkError
from superlink.workflows.graph.parsing import NOT_DATA, data_of_yaml

VERSION = 1
# Arguments in which a reference may stand.
PLACES = ("picture", "refs", "of")

_REFERENCE = re.compile(r"\$([A-Za-z_][\w-]*)((?:\[[\d\s,]+\])?)")
_NAME = re.compile(r"[A-Za-z_][\w-]*")


class PlanError(SuperlinkError):
    """A plan that cannot run, found before anything does; the message names the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """One call of a tool."""

    name: str  # "step1"
    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PlanError(f"a step is named by a word such as 'step1', got {self.name!r}")
        object.__setattr__(self, "arguments", dict(self.arguments))

    @property
    def uses(self) -> tuple[str, ...]:
        """The steps whose results this one takes."""
        found: list[str] = []

        def note(name: str, items: str) -> str:
            found.append(name)
            return ""

        self.filled(note)
        return tuple(dict.fromkeys(found))

    def filled(self, value: Callable[[str, str], str]) -> dict[str, Any]:
        """The arguments with `value(step, items)` in place of every reference, items as "[0,2]" or ""."""

        def put(given: Any) -> Any:
            if isinstance(given, str) and (found := reference_of(given)):
                return value(*found)
            return [put(one) for one in given] if isinstance(given, list | tuple) else given

        return {name: put(given) if name in PLACES else given for name, given in self.arguments.items()}

    def __str__(self) -> str:
        given = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.arguments.items()
        )
        return f"{self.name} = {self.tool}({given})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in the order in which they run. Changes give a new plan."""

    steps: tuple[PlanStep, ...]
    goal: str = ""  # in a person's words

    def __str__(self) -> str:
        lines = [f"{number}. {step}" for number, step in enumerate(self.steps, start=1)]
        return "\n".join([f"goal: {self.goal}", *lines] if self.goal else lines)

    def __len__(self) -> int:
        return len(self.steps)

    def step(self, name: str) -> PlanStep:
        """The step of that name.

        Raises:
            PlanError: there is none.
        """
        for one in self.steps:
            if one.name == name:
                return one
        raise PlanError(f"no step {name!r}; there are {', '.join(one.name for one in self.steps) or 'none'}")

    def changed(self, name: str, *, tool: str | None = None, **arguments: Any) -> Plan:
        """Another tool or other arguments for a step; an argument that is None is left out."""
        old = self.step(name)
        merged = {key: value for key, value in {**old.arguments, **arguments}.items() if value is not None}
        new = replace(old, tool=tool or old.tool, arguments=merged)
        return replace(self, steps=tuple(new if one is old else one for one in self.steps))

    def without(self, name: str) -> Plan:
        """Without a step that no other one uses.

        Raises:
            PlanError: another step takes its result.
        """
        gone = self.step(name)
        users = [one.name for one in self.steps if name in one.uses]
        if users:
            raise PlanError(f"step {name!r} cannot go: {', '.join(users)} takes its result")
        return replace(self, steps=tuple(one for one in self.steps if one is not gone))

    def inserted(self, step: PlanStep, *, before: str | None = None) -> Plan:
        """With one more step, at the end or before another."""
        place = len(self.steps) if before is None else self.steps.index(self.step(before))
        return replace(self, steps=(*self.steps[:place], step, *self.steps[place:]))

    def check(self, toolbox: Toolbox) -> None:
        """Refuse what cannot run, before anything does.

        Raises:
            PlanError: no step, two of one name, an unknown tool, wrong arguments, an id that the toolbox
                does not know, or a reference to no earlier step or to one that gives no such thing.
        """
        if not self.steps:
            raise PlanError("the plan has no steps")
        earlier: dict[str, ToolSpec] = {}
        shown = bool(toolbox.pictures)  # whether there is a picture by then, named or not
        for step in self.steps:
            if step.name in earlier:
                raise PlanError(f"two steps are called {step.name!r}")
            try:
                spec = spec_of(step.tool, toolbox.system.decoders)
                _check_references(step, earlier)
                checked(spec, step.filled(lambda name, items: "later-1"))
                shown = _check_known(step, spec, toolbox, shown=shown)
            except (InputError, PlanError) as error:
                raise PlanError(f"step {step.name!r} ({step.tool}): {error}") from error
            earlier[step.name] = spec

    def to_yaml(self) -> str:
        """The plan as people edit it."""
        steps = [{"name": one.name, "tool": one.tool, "arguments": dict(one.arguments)} for one in self.steps]
        data = {"version": VERSION, "goal": self.goal, "steps": steps}
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Plan:
        """What `to_yaml` wrote and a person may have changed.

        Raises:
            PlanError: no YAML, another version, or a field that plans do not have; names the place.
        """
        given: object = text
        if not isinstance(given, str):
            raise PlanError(f"a plan is read from a text of YAML, got {type(given).__name__}")
        try:
            data = data_of_yaml(text)
        except NOT_DATA as error:
            raise PlanError(f"the plan is no YAML: {' '.join(str(error).split())}") from error
        top = _fields(data, "the plan", ("version", "goal", "steps"))
        if top.get("version") != VERSION:
            raise PlanError(f"a plan of version {VERSION} can be read, got version {top.get('version')!r}")
        listed = top.get("steps")
        if not isinstance(listed, list):
            raise PlanError(f"the steps of a plan are a list, got {type(listed).__name__}")
        steps = []
        for number, one in enumerate(listed, start=1):
            own = _fields(one, f"step {number}", ("name", "tool", "arguments"))
            name, tool, arguments = own.get("name"), own.get("tool"), own.get("arguments") or {}
            if not isinstance(name, str) or not isinstance(tool, str) or not isinstance(arguments, dict):
                raise PlanError(f"step {number} needs a name, a tool and its arguments by name, got {own}")
            steps.append(PlanStep(name=name, tool=tool, arguments=arguments))
        return cls(steps=tuple(steps), goal=str(top.get("goal") or ""))


def reference_of(text: str) -> tuple[str, str] | None:
    """The step and the items of "$step1[0,2]": ("step1", "[0,2]"); None for any other text."""
    match = _REFERENCE.fullmatch(text.strip())
    return None if match is None else (match.group(1), match.group(2))


def _fields(data: object, where: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise PlanError(f"{where} has the fields {', '.join(known)}, got {type(data).__name__}")
    unknown = [name for name in data if name not in known]
    if unknown:
        raise PlanError(f"{where} has no field {unknown[0]!r}; there are {', '.join(known)}")
    return data


def _check_references(step: PlanStep, earlier: Mapping[str, ToolSpec]) -> None:
    """Every reference names an earlier step that gives what stands there."""
    for place in PLACES:
        part = replace(step, arguments={place: step.arguments.get(place)})
        for name in part.uses:
            if name not in earlier:
                there = ", ".join(f"${one}" for one in earlier) or "none"
                raise PlanError(f"`{place}` takes ${name}, which is no earlier step; there are {there}")
            spec = earlier[name]
            if spec.name == "instruct":  # may give anything
                continue
            if spec.makes is None:
                raise PlanError(f"`{place}` takes ${name}, which gives words and no artifact")
            if (place == "picture") != (spec.makes is Picture):
                wanted = "a picture" if place == "picture" else "boxes, masks or keypoints"
                raise PlanError(
                    f"`{place}` takes {wanted}, and ${name} ({spec.name}) gives {spec.makes.__name__.lower()}"
                )


def _check_known(step: PlanStep, spec: ToolSpec, toolbox: Toolbox, *, shown: bool) -> bool:
    """Every id that is no reference is known, and there is a picture to look at.

    Args:
        shown: whether there is one before the step.

    Returns:
        Whether there is one after it.
    """
    given = step.filled(lambda name, items: "")
    if given.get("picture"):
        toolbox.picture(given["picture"])
        shown = True
    refs = given.get("refs") or []
    for reference in [*([refs] if isinstance(refs, str) else refs), given.get("of")]:
        if reference:
            toolbox.artifact(reference)
    if spec.looks and spec.token is not None and not step.uses and not shown:
        raise PlanError("it looks at a picture and there is none; add one to the toolbox")
    return shown or spec.makes is Picture
