"""Plans: what is refused before anything runs, YAML and back, changes, runs within a budget."""

from __future__ import annotations

import keyword
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.agents.model_folder import Model
from superlink.agents.tools.budget import Budget
from superlink.agents.tools.toolbox import Toolbox
from superlink.workflows.planning.plan import Plan, PlanError, PlanStep
from superlink.workflows.planning.running import PlanStopped, run_plan
from tests.agents.tiny_family import build_family, scripted
from tests.agents.tiny_model import scene
from tests.agents.tiny_scene import LEFT, drawn, tiny

FOUND = "Here: <det>red circle</det>[DET]."


@pytest.fixture(scope="module")
def family() -> Model:
    return build_family()


def step(name: str, tool: str, **arguments: Any) -> PlanStep:
    return PlanStep(name=name, tool=tool, arguments=arguments)


def plan_of(*steps: PlanStep) -> Plan:
    return Plan(steps=steps, goal="the left circle")


LEFT_ONE = plan_of(
    step("all", "detect", phrases=["red circle"]),
    step("left", "ground", phrase="leftmost red circle", refs=["$all"]),
    step("outline", "segment", phrases=["red circle"], refs=["$left[0]"]),
    step("how_many", "count", of="$all"),
)


def test_a_plan_runs_step_by_step_on_what_earlier_steps_gave() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    run = run_plan(LEFT_ONE, toolbox)
    assert run.ok
    assert list(run.answers) == ["all", "left", "outline", "how_many"]
    np.testing.assert_allclose(run.turns["outline"].masks.xyxy, [LEFT], atol=6)
    assert run.answers["how_many"].text == "2 x red circle in boxes-1"
    assert run.spent.calls == 3  # counting what is known asks nothing
    assert run.spent.pixels == 3 * 240 * 180
    assert toolbox.artifact("masks-1") is run.turns["outline"].masks
    assert "outline = segment" in str(run)
    assert run.to_json()["steps"]["outline"]["artifacts"][0]["id"] == "masks-1"


def test_a_plan_reads_as_it_runs() -> None:
    assert str(LEFT_ONE).splitlines() == [
        "goal: the left circle",
        '1. all = detect(phrases=["red circle"])',
        '2. left = ground(phrase="leftmost red circle", refs=["$all"])',
        '3. outline = segment(phrases=["red circle"], refs=["$left[0]"])',
        '4. how_many = count(of="$all")',
    ]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "the plan has no steps"),
        ([step("a", "fly")], r"step 'a' \(fly\): no tool 'fly'; there are detect"),
        ([step("a", "detect")], r"step 'a' \(detect\): detect: `phrases`: Field required"),
        ([step("a", "detect", phrases=3)], "`phrases`: Input should be a valid list, got 3"),
        ([step("a", "detect", phrases="x", refs="$b")], r"`refs` takes \$b, which is no earlier step"),
        ([step("a", "detect", phrases="x", refs="$a")], r"`refs` takes \$a, which is no earlier step"),
        ([step("a", "caption"), step("b", "edit", instruction="x", picture="$a")], "gives words and no art"),
        ([step("a", "detect", phrases="x"), step("b", "caption", picture="$a")], "takes a picture, and"),
        ([step("a", "generate", prompt="x"), step("b", "count", of="$a")], "takes boxes, masks or keypoints"),
        ([step("a", "detect", phrases="x")] * 2, "two steps are called 'a'"),
        ([step("a", "detect", phrases="x", picture="picture-5")], "'picture-5' is no known picture"),
        ([step("a", "detect", phrases="x", refs=["boxes-5"])], "there is no 'boxes-5'"),
        ([step("a", "count", of="boxes-5")], "there is no 'boxes-5'"),
        ([step("a", "detect", phrases="x", threshold="high")], "`threshold`: Input should be a valid number"),
    ],
)
def test_what_cannot_run_is_refused_with_the_step_and_nothing_runs(
    family: Model, steps: list[PlanStep], said: str
) -> None:
    system, engine = scripted(family)
    with pytest.raises(PlanError, match=said):
        run_plan(plan_of(*steps), Toolbox(system, pictures=[scene()]))
    assert engine.requests == []


def test_a_plan_without_a_picture_to_look_at_is_refused(family: Model) -> None:
    system, _ = scripted(family)
    with pytest.raises(PlanError, match="it looks at a picture and there is none"):
        run_plan(plan_of(step("a", "detect", phrases="x")), Toolbox(system))
    # One that a step makes will do.
    system, _ = scripted(family, "<det>star</det>[GEN]", FOUND)
    made = plan_of(step("a", "generate", prompt="a star"), step("b", "detect", phrases="x", picture="$a"))
    run = run_plan(made, Toolbox(system))
    assert run.ok
    assert run.turns["b"].boxes.size == run.turns["a"].picture.pixels.shape[:2]  # type: ignore[union-attr]


def test_more_steps_than_calls_are_refused_before_the_first(family: Model) -> None:
    system, engine = scripted(family)
    plan = plan_of(step("a", "caption"), step("b", "caption"))
    with pytest.raises(PlanError, match="the plan has 2 steps and the budget 1 calls"):
        run_plan(plan, Toolbox(system, pictures=[scene()]), budget=Budget(calls=1))
    assert engine.requests == []


def test_a_budget_that_ends_keeps_what_is_done(family: Model) -> None:
    system, engine = scripted(family, *[FOUND] * 3)
    plan = plan_of(*(step(name, "detect", phrases=["red circle"]) for name in "abc"))
    with pytest.raises(PlanStopped, match="step 'c': a picture of 2,400 pixels does not fit") as stopped:
        run_plan(plan, Toolbox(system, pictures=[scene()]), budget=Budget(pixels=2 * 2400 + 100))
    run = stopped.value.run
    assert list(run.answers) == ["a", "b"]
    assert run.turns["b"].boxes.origin.id == "boxes-2"
    assert (run.spent.calls, run.spent.pixels) == (2, 4800)
    assert not run.ok
    assert "the run stopped before it" in str(run)
    assert len(engine.requests) == 2


def test_a_budget_of_seconds_is_the_time_that_calls_have(family: Model) -> None:
    system, _ = scripted(family, *[FOUND] * 2)
    plan = plan_of(*(step(name, "detect", phrases=["red circle"]) for name in "ab"))
    with pytest.raises(PlanStopped, match=r"the budget of 1e-06 seconds is used up") as stopped:
        run_plan(plan, Toolbox(system, pictures=[scene()]), budget=Budget(seconds=1e-6))
    run = stopped.value.run
    assert {one.kind for one in run.turns["a"].failures} == {"timeout"}


def test_a_step_that_fails_takes_along_only_those_that_use_it(family: Model) -> None:
    system, _ = scripted(family, "nothing.", FOUND)
    plan = plan_of(
        step("a", "detect", phrases=["heart"]),
        step("b", "segment", refs=["$a"]),
        step("c", "segment", refs=["$b"]),
        step("d", "detect", phrases=["red circle"]),
    )
    run = run_plan(plan, Toolbox(system, pictures=[scene()]))
    assert list(run.answers) == ["a", "d"]
    assert run.failed["b"] == "$a gave no artifact: the system said 'nothing.'"
    assert run.failed["c"].startswith("$b failed: $a gave no artifact")
    assert not run.ok


def test_changes_give_a_new_plan() -> None:
    changed = LEFT_ONE.changed("all", phrases=["blue square"], threshold=0.2)
    assert changed.step("all").arguments == {"phrases": ["blue square"], "threshold": 0.2}
    assert changed.changed("all", threshold=None).step("all").arguments == {"phrases": ["blue square"]}
    assert LEFT_ONE.step("all").arguments == {"phrases": ["red circle"]}
    with pytest.raises(PlanError, match="step 'all' cannot go: left, how_many takes its result"):
        LEFT_ONE.without("all")
    assert [one.name for one in LEFT_ONE.without("outline").steps] == ["all", "left", "how_many"]
    more = LEFT_ONE.inserted(step("say", "caption"), before="left")
    assert [one.name for one in more.steps] == ["all", "say", "left", "outline", "how_many"]
    with pytest.raises(PlanError, match="no step 'x'; there are all, left"):
        LEFT_ONE.changed("x", a=1)
    with pytest.raises(PlanError, match="a step is named by a word"):
        step("1 a", "detect")
    assert pickle.loads(pickle.dumps(LEFT_ONE)) == LEFT_ONE  # so that workers of Ray can take it


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
VALUES = WORDS | st.integers(-5, 5) | st.booleans() | st.lists(WORDS, max_size=3)


@settings(max_examples=40)
@given(
    goal=WORDS,
    steps=st.lists(
        st.builds(
            PlanStep,
            name=st.text("abcXYZ", min_size=1, max_size=6),
            tool=WORDS,
            arguments=st.dictionaries(st.sampled_from(sorted(keyword.kwlist)), VALUES, max_size=3),
        ),
        max_size=4,
    ),
)
def test_yaml_and_back_is_the_same_plan(goal: str, steps: list[PlanStep]) -> None:
    plan = Plan(steps=tuple(steps), goal=goal)
    assert Plan.from_yaml(plan.to_yaml()) == plan


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "the plan is no YAML"),
        (None, "a plan is read from a text of YAML, got NoneType"),
        ("version: 1\nsteps: &a [*a]", "the plan is no YAML: more than 1,000,000 values"),
        ("version: 1\ngoal: a\ngoal: b\nsteps: []", "'goal' a second time"),
        ("- 1", "the plan has the fields version, goal, steps, got list"),
        ("version: 2\nsteps: []", "a plan of version 1 can be read, got version 2"),
        ("version: 1\nsteps: 3", "the steps of a plan are a list, got int"),
        ("version: 1\nsteps: []\ncolor: red", "the plan has no field 'color'"),
        ("version: 1\nsteps: [{name: a, tool: b, when: c}]", "step 1 has no field 'when'"),
        ("version: 1\nsteps: [{name: a}]", "step 1 needs a name, a tool and its arguments"),
        ("version: 1\nsteps: [x]", "step 1 has the fields name, tool, arguments, got str"),
        ("version: 1\nsteps: [{name: a b, tool: c}]", "a step is named by a word"),
    ],
)
def test_yaml_that_is_no_plan_is_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Plan.from_yaml(text)


def test_a_plan_takes_the_files_that_its_tools_would_open(family: Model, tmp_path: Path) -> None:
    drawn().save(tmp_path / "site.png")
    (tmp_path / "notes.png").write_bytes(b"no picture")
    system, engine = scripted(family, FOUND, FOUND)
    toolbox = Toolbox(system, folder=tmp_path)
    plan = plan_of(
        step("a", "detect", phrases=["red circle"], picture="site.png"),
        step("b", "detect", phrases=["red circle"]),  # about the one that was opened
    )
    plan.check(toolbox)
    assert toolbox.pictures == ()  # checking shows nothing to the tools
    run = run_plan(plan, toolbox)
    assert run.ok
    assert [turn.boxes.size for turn in run.turns.values()] == [(180, 240)] * 2
    for name, said in (("other.png", "'other.png' is no known picture"), ("notes.png", "not a picture")):
        with pytest.raises(PlanError, match=said):
            plan.changed("a", picture=name).check(toolbox)
    assert len(engine.requests) == 2


def test_counting_what_is_known_needs_no_call_of_the_budget(family: Model) -> None:
    system, _ = scripted(family, FOUND)
    plan = plan_of(
        step("a", "detect", phrases=["red circle"]),
        step("b", "count", of="$a"),
        step("c", "count", of="$a[0]"),
    )
    run = run_plan(plan, Toolbox(system, pictures=[scene()]), budget=Budget(calls=1))
    assert (run.ok, run.spent.calls) == (True, 1)
    more = plan.inserted(step("d", "count", phrases=["red circle"]))
    with pytest.raises(PlanError, match="the plan has 4 steps, 2 of which ask, and the budget 1 calls"):
        run_plan(more, Toolbox(system, pictures=[scene()]), budget=Budget(calls=1))


def test_runs_that_their_own_budget_refuses_leave_that_of_the_toolbox(family: Model) -> None:
    system, _ = scripted(family, FOUND)
    toolbox = Toolbox(system, pictures=[scene()], budget=Budget(calls=1))
    plan = plan_of(step("a", "detect", phrases=["red circle"]))
    for _ in range(3):
        with pytest.raises(PlanStopped, match="does not fit into what is left of a budget of 10"):
            run_plan(plan, toolbox, budget=Budget(pixels=10))
    assert run_plan(plan, toolbox).ok
