"""A planner: any chat model that calls tools writes a plan, a person may change it, then it runs.

The model is given the tools as in any agent, but its calls are only noted: each is checked and answered
with the name of its step, so the model can refer to results that are not there yet. Nothing of the system
runs before the plan is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import CallbackManagerForChainRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig

from superlink.agents.tools.budget import Budget
from superlink.agents.tools.toolbox import Toolbox
from superlink.workflows.planning.plan import Plan, PlanError, PlanStep
from superlink.workflows.planning.running import PlanRun, run_plan

INSTRUCTIONS = """Plan how to do what the person asks, with the tools that you have. Your calls do not run \
now: they are noted as step1, step2, ... in the order in which you make them, and run later in that order.
Where an argument takes the id of a result or of a picture, write $step1 for what step1 will give, or \
$step1[0] for its first item. Make as many calls at once as you can, and only those that are needed. When \
the plan is complete, answer with one sentence and without calls.
Known pictures and results: {known}."""

# Shows the plan to a person; gives back the plan to run, changed or not, or None to run nothing.
Review = Callable[[Plan], Plan | None]


class PlannerAgent(Runnable[str, PlanRun]):
    """Plan, show, edit, run. `invoke` does all four; `plan` and `run` do them apart."""

    def __init__(
        self,
        model: BaseChatModel,
        toolbox: Toolbox,
        *,
        budget: Budget | None = None,
        review: Review | None = None,
        max_rounds: int = 8,
        max_steps: int = 50,
    ) -> None:
        """A planner over the tools of `toolbox`.

        Args:
            model: calls tools.
            toolbox: whose pictures and results plans may use.
            budget: of each run.
            review: sees a plan before `invoke` runs it.
            max_rounds: how often the model is asked for more steps.
            max_steps: of a plan.
        """
        self._model = model
        self._toolbox = toolbox
        self._budget = budget
        self._review = review
        self._max_rounds = max_rounds
        self._max_steps = max_steps

    def plan(self, request: str, config: RunnableConfig | None = None) -> Plan:
        """What the model would do; nothing runs.

        Raises:
            PlanError: the model calls no tools, plans nothing, or comes to no end.
        """
        tools = self._toolbox.tools()
        try:
            model = self._model.bind_tools(tools)
        except NotImplementedError as error:
            raise PlanError(
                f"{type(self._model).__name__} calls no tools; plan with one that does"
            ) from error
        known = ", ".join(self._toolbox.names) or "none"
        messages: list[BaseMessage] = [
            SystemMessage(INSTRUCTIONS.format(known=known)),
            HumanMessage(request),
        ]
        plan = Plan(steps=(), goal=request)
        for _ in range(self._max_rounds):
            reply = model.invoke(messages, config)
            if not reply.tool_calls and not reply.invalid_tool_calls:
                if not plan.steps:
                    raise PlanError(f"the model planned nothing; it said {reply.text!r}")
                return plan
            plan, notes = self._noted(plan, reply)
            messages += [reply, *notes]
        raise PlanError(f"the model came to no end in {self._max_rounds} rounds, with {len(plan)} steps")

    def run(self, plan: Plan, *, budget: Budget | None = None) -> PlanRun:
        """Run a plan, as the model wrote it or as it was changed.

        Raises:
            PlanError: the plan cannot run; nothing ran.
            PlanStopped: the budget is used up; its `run` has what is done.
        """
        return run_plan(plan, self._toolbox, budget=budget or self._budget)

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> PlanRun:
        """Plan, let it be reviewed, run.

        Raises:
            PlanError: there is no plan, it cannot run, or it was refused.
            PlanStopped: the budget is used up; its `run` has what is done.
        """

        def whole(request: str, run_manager: CallbackManagerForChainRun, config: RunnableConfig) -> PlanRun:
            plan: Plan | None = self.plan(request, config)
            if plan is not None and self._review is not None:
                plan = self._review(plan)
            if plan is None:
                raise PlanError("the plan was refused; nothing ran")
            return self.run(plan)

        return self._call_with_config(whole, input, config, run_type="chain")

    def _noted(self, plan: Plan, reply: AIMessage) -> tuple[Plan, Sequence[ToolMessage]]:
        """The plan with the calls of a reply, and what the model is told about each of them."""
        notes = [
            ToolMessage(f"not JSON: {call.get('error')}", tool_call_id=call.get("id") or "", status="error")
            for call in reply.invalid_tool_calls
        ]
        for call in reply.tool_calls:
            try:
                if len(plan) >= self._max_steps:
                    raise PlanError(f"a plan has at most {self._max_steps} steps")
                step = PlanStep(name=f"step{len(plan) + 1}", tool=call["name"], arguments=call["args"])
                longer = replace(plan, steps=(*plan.steps, step))
                longer.check(self._toolbox)
            except PlanError as error:
                notes.append(ToolMessage(str(error), tool_call_id=call["id"] or "", status="error"))
            else:
                plan = longer
                told = f"noted as {step.name}; nothing has run. ${step.name} stands for what it will give."
                notes.append(ToolMessage(told, tool_call_id=call["id"] or ""))
        return plan, notes
