"""Plan, show, edit, run: a chat model with tool calling plans, and nothing runs before it may."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolMessage

from superlink.agents.model_folder import Model
from superlink.agents.tools.budget import Budget, BudgetError
from superlink.agents.tools.toolbox import Toolbox
from superlink.router.errors import InputError
from superlink.workflows.planning.plan import Plan, PlanError
from superlink.workflows.planning.planner import PlannerAgent
from superlink.workflows.planning.running import PlanStopped
from tests.agents.scripted_chat import ScriptedChat, calling, scripted_chat
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import build_model, scene
from tests.agents.tiny_scene import LEFT, SQUARE, drawn, tiny

REQUEST = "Outline the left circle."


@pytest.fixture(scope="module")
def model() -> Model:
    return build_model()


def script() -> ScriptedChat:
    """Two calls at once, of which the second takes the result of the first; then a mistake, corrected."""
    return scripted_chat(
        calling(
            ("ground", {"phrase": "leftmost red circle"}),
            ("segment", {"phrases": ["red circle"], "refs": ["$step1[0]"]}),
        ),
        calling(("count", {"of": "$step9"}), first=3),
        calling(("count", {"of": "$step2"}), first=4),
        "That is the plan.",
    )


def test_a_model_plans_over_the_tools_and_nothing_runs() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    chat = script()
    plan = PlannerAgent(chat, toolbox).plan(REQUEST)
    assert str(plan).splitlines() == [
        f"goal: {REQUEST}",
        '1. step1 = ground(phrase="leftmost red circle")',
        '2. step2 = segment(phrases=["red circle"], refs=["$step1[0]"])',
        '3. step3 = count(of="$step2")',
    ]
    assert toolbox.meter.spent.calls == 0
    assert toolbox.names == ("picture-1",)
    assert [tool.name for tool in chat.tools] == [tool.name for tool in toolbox.tools()]
    assert "Known pictures and results: picture-1." in str(chat.seen[0][0].content)
    notes = [message for message in chat.seen[-1] if isinstance(message, ToolMessage)]
    assert [note.status for note in notes] == ["success", "success", "error", "success"]
    assert "`of` takes $step9, which is no earlier step; there are $step1, $step2" in notes[2].content


def test_plan_show_edit_run() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    agent = PlannerAgent(script(), toolbox)
    text = agent.plan(REQUEST).to_yaml()
    edited = Plan.from_yaml(
        text.replace("leftmost red circle", "blue square").replace("red circle", "square")
    )
    run = agent.run(edited.changed("step2", phrases=["blue square"]))
    assert run.ok
    np.testing.assert_allclose(run.turns["step2"].masks.xyxy, [SQUARE], atol=4)


def test_invoked_it_shows_the_plan_to_a_person_and_runs_what_comes_back() -> None:
    shown: list[Plan] = []

    def review(plan: Plan) -> Plan:
        shown.append(plan)
        return plan.without("step3")

    agent = PlannerAgent(script(), Toolbox(tiny(), pictures=[drawn()]), review=review)
    run = agent.invoke(REQUEST)
    assert len(shown[0]) == 3
    assert list(run.answers) == ["step1", "step2"]
    np.testing.assert_allclose(run.turns["step2"].masks.xyxy, [LEFT], atol=6)


def test_awaited_and_in_a_chain_it_is_a_runnable() -> None:
    agent = PlannerAgent(script(), Toolbox(tiny(), pictures=[drawn()]))
    chain = agent | (lambda run: run.answers["step3"].text)
    assert asyncio.run(chain.ainvoke(REQUEST)) == "1 x red circle in masks-1"


def test_a_plan_that_a_person_refuses_does_not_run(model: Model) -> None:
    system, engine = scripted(model)
    chat = scripted_chat(calling(("caption", {})), "done")
    agent = PlannerAgent(chat, Toolbox(system, pictures=[scene()]), review=lambda plan: None)
    with pytest.raises(PlanError, match="the plan was refused; nothing ran"):
        agent.invoke("Describe it.")
    assert engine.requests == []


def test_a_budget_that_ends_is_a_typed_error_with_what_is_done(model: Model) -> None:
    system, _ = scripted(model, "a star.", "a heart.")
    chat = scripted_chat(calling(("caption", {}), ("caption", {})), "done")
    agent = PlannerAgent(chat, Toolbox(system, pictures=[scene()]), budget=Budget(pixels=3000))
    with pytest.raises(PlanStopped, match="1 of 2 steps are done") as stopped:
        agent.invoke("Describe it twice.")
    assert isinstance(stopped.value, BudgetError)
    assert stopped.value.run.answers["step1"].text == "answer: a star."


def test_a_planner_that_plans_nothing_or_never_ends_is_told_so(model: Model) -> None:
    system, _ = scripted(model)
    toolbox = Toolbox(system, pictures=[scene()])
    with pytest.raises(PlanError, match="the model planned nothing; it said 'I cannot"):
        PlannerAgent(scripted_chat("I cannot."), toolbox).plan("Fly.")
    endless = scripted_chat(*[calling(("caption", {}))] * 3)
    with pytest.raises(PlanError, match="came to no end in 3 rounds, with 2 steps"):
        PlannerAgent(endless, toolbox, max_rounds=3, max_steps=2).plan("Describe it.")
    last = endless.seen[-1][-1]
    assert isinstance(last, ToolMessage)
    with pytest.raises(PlanError, match="FakeListChatModel calls no tools; plan with one that does"):
        PlannerAgent(FakeListChatModel(responses=["a"]), toolbox).plan("Fly.")
    with pytest.raises(InputError, match="calls no tools"):
        PlannerAgent(system.as_chat_model(), toolbox).plan("Fly.")


def test_a_call_that_is_no_json_is_told_to_the_model(model: Model) -> None:
    system, _ = scripted(model)
    broken = AIMessage(
        "", invalid_tool_calls=[{"name": "caption", "args": "{", "id": "call-9", "error": "unfinished"}]
    )
    chat = scripted_chat(broken, calling(("caption", {})), "done")
    plan = PlannerAgent(chat, Toolbox(system, pictures=[scene()])).plan("Describe it.")
    assert [one.tool for one in plan.steps] == ["caption"]
    note = chat.seen[1][-1]
    assert isinstance(note, ToolMessage)
    assert (note.status, note.tool_call_id) == ("error", "call-9")
