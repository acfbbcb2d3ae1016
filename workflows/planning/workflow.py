"""A plan as a workflow: the same calls as typed steps, for many pictures, files, caches and clusters.

Pictures that the plan looks at become inputs; every step becomes an output of its name. The steps ask in
the same sentences as the tools, so they give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from superlink.agents.pictures import SourcePicture
from superlink.agents.tools.arguments import Arguments
from superlink.agents.tools.specs import ToolSpec, spec_of
from superlink.agents.tools.toolbox import Toolbox, checked
from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.router.errors import InputError
from superlink.workflows.graph.definition import Handle, Step
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.workflow import Workflow
from superlink.workflows.planning.plan import Plan, PlanError, PlanStep, reference_of
from superlink.workflows.steps import routes
from superlink.workflows.steps.function import step as function_step

# What `instruct` returns in place of a tool whose sentence no other step has.
_RETURNS = {"pose": "keypoints", "instruct": "all"}


def workflow_of(plan: Plan, toolbox: Toolbox, *, name: str = "plan") -> Workflow:
    """The workflow that does what the plan does.

    Args:
        plan: is checked first.
        toolbox: whose system answers, and whose pictures the plan speaks of.
        name: of the workflow.

    Raises:
        PlanError: the plan cannot run, or keeps to results that only the toolbox knows.
    """
    plan.check(toolbox)
    workflow = Workflow(name, description=plan.goal, system=toolbox.system)
    built = _Built(workflow, toolbox, plan)
    for step in plan.steps:
        try:
            built.add(step)
        except (InputError, PlanError) as error:
            raise PlanError(f"step {step.name!r} ({step.tool}): {error}") from error
    for step in plan.steps:
        workflow.output(step.name, built.made[step.name])
    return workflow


@dataclass(slots=True)
class _Built:
    """A workflow while steps are added."""

    workflow: Workflow
    toolbox: Toolbox
    plan: Plan
    made: dict[str, Handle] = field(default_factory=dict)  # by the name of the step
    about: dict[str, Handle | None] = field(default_factory=dict)  # the picture of each step
    inputs: dict[str, Handle] = field(default_factory=dict)  # by the id of the picture's content
    last: Handle | None = None  # the picture that a step made or opened last

    def add(self, step: PlanStep) -> None:
        spec = spec_of(step.tool, self.toolbox.system.decoders)
        # Only the shape of the arguments counts here; references stay as they are.
        given = checked(spec, step.arguments)
        known = self._of(step, given)
        if known is not None:
            self.made[step.name] = routes.count(name=step.name)(known)
            self.about[step.name] = self.about[step.uses[0]]
            return
        refs = [self._reference(one) for one in getattr(given, "refs", ())]
        picture = self._picture(spec, step, given) if spec.looks else None
        wanted = _step_of(spec, step, given, self._phrases(step, given), looks=picture is not None)
        handles = [*([] if picture is None else [picture]), *refs]
        handle = wanted(*handles) if handles else self.workflow.add(wanted)
        self.made[step.name] = handle
        self.about[step.name] = picture
        if spec.name in ("generate", "edit"):
            self.last = self.about[step.name] = handle

    def _of(self, step: PlanStep, given: Arguments) -> Handle | None:
        of = getattr(given, "of", None)
        return None if of is None else self._reference(of)

    def _reference(self, reference: str) -> Handle:
        """The handle of "$step1", or of items of it."""
        found = reference_of(reference)
        if found is None:
            raise PlanError(
                f"{reference!r} is a result that only this toolbox knows; let a step find it again"
            )
        name, items = found
        if not items:
            return self.made[name]
        rows = [int(row) for row in items.strip("[]").replace(",", " ").split()]
        handle: Handle = items_at(self.made[name], rows=rows)
        return handle

    def _picture(self, spec: ToolSpec, step: PlanStep, given: Any) -> Handle | None:
        if given.picture is not None and given.picture.strip().startswith("$"):
            return self._reference(given.picture)
        if given.picture is not None:
            return self._named(given.picture.strip())
        if step.uses:
            return self.about[step.uses[0]]
        if self.last is not None:
            return self.last
        if not self.toolbox.pictures:
            return None
        picture = self.toolbox.picture()  # what a tool would look at: not always the one that is listed last
        return self._input(picture, self.toolbox.name_of(picture))

    def _named(self, name: str) -> Handle:
        handle = self._input(self.toolbox.picture(name), name)
        if name not in self.toolbox.pictures:
            self.last = handle  # a file: to open it is to show it
        return handle

    def _input(self, picture: SourcePicture, called: str) -> Handle:
        if picture.id not in self.inputs:
            name = "picture" if not self.inputs else f"picture{len(self.inputs) + 1}"
            self.inputs[picture.id] = self.workflow.input(name, Image, description=f"in place of {called}")
        return self.inputs[picture.id]

    def _phrases(self, step: PlanStep, given: Any) -> list[str]:
        """What a step is about; without words of its own, what the steps are about that it uses."""
        own = [given.phrase] if hasattr(given, "phrase") else list(getattr(given, "phrases", ()))
        if own or not step.uses:
            return own
        user = self.plan.step(step.uses[0])
        spec = spec_of(user.tool, self.toolbox.system.decoders)
        return self._phrases(user, checked(spec, user.arguments))


@function_step(name="items")
def items_at(items: Boxes | Masks | Keypoints, rows: list) -> Boxes | Masks | Keypoints:  # type: ignore[type-arg]
    """The items at `rows`, from 0."""
    outside = [row for row in rows if row >= len(items)]
    if outside:
        raise InputError(f"there are {len(items)} items, none at {outside[0]}")
    return items.select(rows)


def _step_of(spec: ToolSpec, step: PlanStep, given: Any, phrases: list[str], *, looks: bool) -> Step:
    """The step that asks what the tool would ask."""
    options: dict[str, Any] = {"name": step.name}
    if getattr(given, "threshold", None) is not None:
        options["threshold"] = given.threshold
    if getattr(given, "seed", 0):
        options["seed"] = given.seed
    said = [_words(phrase) for phrase in phrases]
    if spec.name == "count" and len(said) != 1:
        raise PlanError(f"a workflow counts one thing a step, this one {len(said)}; make it several steps")
    listed: Mapping[str, Callable[..., Step]] = {"detect": routes.detect, "segment": routes.segment}
    single: Mapping[str, Callable[..., Step]] = {"ground": routes.ground, "count": routes.count}
    if spec.name in listed:
        return listed[spec.name](*said, **options)
    if spec.name in single:
        return single[spec.name](*said, **options)
    if spec.name == "generate":
        return routes.generate(_words(given.prompt), **options)
    if spec.name == "edit":
        return routes.edit(_words(given.instruction), **options)
    if spec.name == "caption":
        return routes.caption(**options)
    if spec.name == "ask":
        return routes.ask(_words(given.question), **options)
    text = _words(spec.sentence(given))
    return routes.instruct(text, returns=_RETURNS[spec.name], image=looks, **options)


def _words(text: str) -> str:
    """Words of a step: single braces in them would be ports."""
    return text.replace("{", "{{").replace("}", "}}")
