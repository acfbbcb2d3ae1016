"""A plan as a workflow gives what the plan gives, for other pictures too, and can be saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageOps

from superlink.agents.model_folder import Model
from superlink.agents.tools.toolbox import Toolbox
from superlink.workflows.planning.plan import Plan, PlanError, PlanStep
from superlink.workflows.planning.running import run_plan
from superlink.workflows.planning.workflow import workflow_of
from tests.agents.tiny_family import build_family, scripted
from tests.agents.tiny_model import scene
from tests.agents.tiny_scene import drawn, tiny


@pytest.fixture(scope="module")
def family() -> Model:
    return build_family()


def plan_of(*steps: tuple[str, str, dict[str, Any]]) -> Plan:
    made = (PlanStep(name=name, tool=tool, arguments=arguments) for name, tool, arguments in steps)
    return Plan(steps=tuple(made), goal="outline the left circle")


LEFT_ONE = plan_of(
    ("all", "detect", {"phrases": ["the red circle"]}),
    ("left", "ground", {"phrase": "leftmost red circle"}),
    ("outline", "segment", {"phrases": ["red circle"], "refs": ["$left[0]"]}),
    ("how_many", "count", {"of": "$all"}),
)


def test_the_workflow_of_a_plan_gives_what_the_plan_gives() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    workflow = workflow_of(LEFT_ONE, toolbox)
    workflow.check()
    run = run_plan(LEFT_ONE, toolbox)
    given = workflow.invoke({"picture": drawn()})
    assert list(given) == ["all", "left", "outline", "how_many"]
    # Steps that are ready together are asked in one batch, which rounds otherwise in the last digits.
    np.testing.assert_allclose(given["all"].xyxy, run.turns["all"].boxes.xyxy, atol=1e-3)
    np.testing.assert_array_equal(given["outline"].masks, run.turns["outline"].masks.masks)
    assert given["how_many"] == 2
    # For another picture it gives what the plan gives for that one.
    mirrored = ImageOps.mirror(drawn())
    given = workflow.invoke(mirrored)
    run = run_plan(LEFT_ONE, Toolbox(tiny(), pictures=[mirrored]))
    np.testing.assert_array_equal(given["outline"].masks, run.turns["outline"].masks.masks)
    assert given["how_many"] == len(run.turns["all"].boxes)


def test_every_tool_asks_the_same_sentence_as_its_step(family: Model) -> None:
    plan = plan_of(
        ("found", "detect", {"phrases": ["the star", "heart."], "threshold": 0.1}),
        ("inside", "segment", {"refs": ["$found"]}),
        ("posed", "pose", {"keypoints": ["nose"]}),
        ("number", "count", {"phrases": ["star"]}),
        ("made", "generate", {"prompt": "a star.", "seed": 5}),
        ("changed", "edit", {"instruction": "make it green", "picture": "$made"}),
        ("said", "caption", {}),
        ("asked", "ask", {"question": "what is it?", "picture": "picture-1"}),
        ("free", "instruct", {"instruction": "do as you like", "picture": "picture-1"}),
        ("braced", "ask", {"question": "what is {this} or {{that}}?", "picture": "picture-1"}),
    )
    found = "<det>star</det>[DET], <det>heart</det>[DET]"
    replies = [found, "<det>star</det>[SEG], <det>heart</det>[SEG]"]
    replies += ["<det>person</det>[DET] <det>nose</det>[POSE]", "<det>star</det>[DET]"]
    replies += ["<det>star</det>[GEN]", "<det>green</det>[EDIT]", "a", "b", "c", "d"]
    system, engine = scripted(family, *replies)
    run_plan(plan, Toolbox(system, pictures=[scene()]))
    by_tool = {request.conversation[-1].text for request in engine.requests}
    workflow = workflow_of(plan, Toolbox(system, pictures=[scene()]))
    workflow.check()
    asked = set()
    for node in workflow.graph.nodes:
        if node.step is not None and node.step.asks is not None:
            ports = [port for port in node.step.ports if port.name == "image"]
            asked.add(node.step.asks.request(*[None for _ in ports]).text)
    assert asked == by_tool
    seeds = {node.name: node.policies.seed for node in workflow.graph.nodes}
    assert (seeds["made"], seeds["found"]) == (5, None)


def test_pictures_that_a_plan_names_are_inputs_and_made_ones_are_not(family: Model) -> None:
    toolbox = Toolbox(scripted(family)[0], pictures=[scene(seed=1), scene(seed=2)])
    plan = plan_of(
        ("a", "caption", {}),
        ("b", "caption", {"picture": "picture-1"}),
        ("made", "generate", {"prompt": "a star"}),
        ("c", "detect", {"phrases": ["star"]}),
    )
    workflow = workflow_of(plan, toolbox)
    assert [one.name for one in workflow.graph.inputs] == ["picture", "picture2"]
    nodes = {node.name: node for node in workflow.graph.nodes}
    assert nodes["c"].positional[0].node is nodes["made"]


def test_what_a_workflow_cannot_do_is_refused_with_the_step(family: Model) -> None:
    system, _ = scripted(family, "<det>star</det>[DET]")
    toolbox = Toolbox(system, pictures=[scene()])
    toolbox.run("detect", {"phrases": ["star"]})
    with pytest.raises(
        PlanError, match=r"step 'a' \(segment\): 'boxes-1' is a result that only this toolbox"
    ):
        workflow_of(plan_of(("a", "segment", {"phrases": ["star"], "refs": ["boxes-1"]})), toolbox)
    with pytest.raises(
        PlanError, match=r"step 'a' \(count\): a workflow counts one thing a step, this one 2"
    ):
        workflow_of(plan_of(("a", "count", {"phrases": ["star", "heart"]})), toolbox)
    with pytest.raises(PlanError, match="no tool 'fly'"):
        workflow_of(plan_of(("a", "fly", {})), toolbox)


def test_a_step_without_a_picture_is_about_the_one_that_the_toolbox_looks_at(
    family: Model, tmp_path: Path
) -> None:
    system, _ = scripted(family)
    toolbox = Toolbox(system, pictures=[scene(seed=1), scene(seed=2)], folder=tmp_path)
    toolbox.add(scene(seed=1))  # shown again: picture-1 is what is looked at
    (picture,) = workflow_of(plan_of(("a", "caption", {})), toolbox).graph.inputs
    assert picture.description == "in place of picture-1"
    # A file that a step opens is what later steps look at, and is an input of its own.
    drawn().save(tmp_path / "site.png")
    plan = plan_of(
        ("a", "caption", {}),
        ("b", "caption", {"picture": "site.png"}),
        ("c", "caption", {}),
        ("d", "caption", {"picture": "picture-1"}),
    )
    graph = workflow_of(plan, toolbox).graph
    assert [one.description for one in graph.inputs] == ["in place of picture-1", "in place of site.png"]
    looks = {node.name: node.positional[0].node.name for node in graph.nodes if node.positional}
    assert looks == {"a": "picture", "b": "picture2", "c": "picture2", "d": "picture"}
