"""Running a plan over a toolbox: step by step, within a budget, losing nothing that is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from superlink.agents.tools.budget import Budget, BudgetError, Meter, Spent
from superlink.agents.tools.toolbox import ToolAnswer, Toolbox
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Picture
from superlink.router.errors import InputError, SuperlinkError
from superlink.workflows.planning.plan import Plan, PlanError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanRun:
    """What became of a plan. Steps are in `answers` or in `failed`; after a stop, later ones in neither."""

    plan: Plan
    answers: Mapping[str, ToolAnswer] = field(default_factory=dict)  # by the name of the step
    failed: Mapping[str, str] = field(default_factory=dict)  # why, by the name of the step
    spent: Spent = field(default_factory=Spent)

    @property
    def ok(self) -> bool:
        """Whether every step was answered and no decoder failed."""
        turns = self.turns.values()
        return len(self.answers) == len(self.plan) and not any(turn.failures for turn in turns)

    @property
    def turns(self) -> dict[str, Turn]:
        """What the steps gave."""
        return {name: answer.turn for name, answer in self.answers.items()}

    def __str__(self) -> str:
        lines = []
        for step in self.plan.steps:
            if step.name in self.answers:
                lines.append(f"{step}\n{self.answers[step.name].text}")
            else:
                lines.append(f"{step}\nnot done: {self.failed.get(step.name, 'the run stopped before it')}")
        return "\n\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain data: the turns of all steps as `Turn.to_json` gives them."""
        return {
            "goal": self.plan.goal,
            "steps": {name: turn.to_json() for name, turn in self.turns.items()},
            "failed": dict(self.failed),
            "spent": {
                "calls": self.spent.calls,
                "seconds": round(self.spent.seconds, 4),
                "pixels": self.spent.pixels,
            },
        }


class PlanStopped(BudgetError):
    """The budget ended before the plan; `run` has everything that is done."""

    def __init__(self, message: str, run: PlanRun) -> None:
        super().__init__(message)
        self.run = run


def run_plan(plan: Plan, toolbox: Toolbox, *, budget: Budget | None = None) -> PlanRun:
    """Run every step; one that fails takes along only those that use its result.

    Args:
        plan: is checked first.
        toolbox: whose tools run, and which remembers what they give.
        budget: of this run, beside that of the toolbox.

    Raises:
        PlanError: the plan cannot run, or has more steps that ask than the budget has calls; nothing ran.
        PlanStopped: the budget is used up; `run` has what is done.
    """
    plan.check(toolbox)
    # Counting the items of an earlier result asks nothing, so it costs no call.
    asking = sum(one.tool != "count" or one.arguments.get("of") is None for one in plan.steps)
    if budget is not None and budget.calls is not None and asking > budget.calls:
        known = "" if asking == len(plan) else f", {asking} of which ask,"
        raise PlanError(
            f"the plan has {len(plan)} steps{known} and the budget {budget.calls} calls; "
            f"leave steps out or raise the budget"
        )
    meter = Meter(budget)
    answers: dict[str, ToolAnswer] = {}
    failed: dict[str, str] = {}
    for step in plan.steps:
        try:
            arguments = step.filled(lambda name, items: _result(name, items, answers, failed))
            answers[step.name] = toolbox.run(step.tool, arguments, meter=meter)
        except BudgetError as error:
            run = PlanRun(plan=plan, answers=answers, failed=failed, spent=meter.spent)
            raise PlanStopped(
                f"step {step.name!r}: {error}; {len(answers)} of {len(plan)} steps are done", run
            ) from error
        except SuperlinkError as error:
            failed[step.name] = str(error)
    return PlanRun(plan=plan, answers=answers, failed=failed, spent=meter.spent)


def _result(name: str, items: str, answers: Mapping[str, ToolAnswer], failed: Mapping[str, str]) -> str:
    """The id of what an earlier step gave."""
    if name in failed:
        raise InputError(f"${name} failed: {failed[name]}")
    turn = answers[name].turn
    made: Artifact | None = next(iter(turn.artifacts), None)
    if made is None:
        why = "; ".join(one.error for one in turn.failures) or f"the system said {turn.text!r}"
        raise InputError(f"${name} gave no artifact: {why}")
    if isinstance(made, Picture) and items:
        raise InputError(f"${name} is a picture and has no items {items}")
    return made.origin.id + items
