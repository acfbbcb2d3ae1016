"""What files may not name, may not hold, and what comes back from them unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superlink import Image, InputError, Picture, Workflow, WorkflowError, steps
from superlink.workflows.graph.cache import MemoryCache
from superlink.workflows.graph.parsing import parsed
from tests.workflows.graph import own_module
from tests.workflows.graph.toys import inc, total

OWN = "tests.workflows.graph.own_module"


def named(function: str) -> dict[str, Any]:
    used = {"use": "function", "function": f"{OWN}:{function}", "in": {"x": "x"}}
    return {
        "version": 1,
        "name": "w",
        "inputs": {"x": {"type": "int"}},
        "steps": {"s": used},
        "outputs": {"y": "s"},
    }


@pytest.mark.parametrize(
    "function",
    ["os.system", "Popen", "Path.unlink", "Tools.system", "__loader__.set_data", "Tools.more.__globals__"],
)
def test_a_file_reaches_nothing_that_an_allowed_module_only_imported(function: str) -> None:
    with pytest.raises(WorkflowError, match=r"steps\.s\.function: expected a function .*got"):
        Workflow.from_data(named(function), allow=[OWN])
    data = named("now")
    condition = {"function": f"{OWN}:{function}"}
    data["steps"]["s"] = {"use": "branch", "with": {"condition": condition, "then": {"use": "caption"}}}
    with pytest.raises(WorkflowError, match=r"with\.condition\.function: expected a function .*got"):
        Workflow.from_data(data, allow=[OWN])


def test_a_file_reaches_functions_of_a_class_in_an_allowed_module() -> None:
    assert Workflow.from_data(named("Tools.more"), allow=[OWN]).invoke(1) == {"y": 2}


def test_what_is_wrong_is_not_saved(tmp_path: Path) -> None:
    wf = Workflow("w")
    x = wf.input("x", int)
    first = inc.using(name="d")(x)
    wf.output("y", first)
    inc.using(name="d")(first)
    wf.output("y", x)
    with pytest.raises(WorkflowError, match="duplicate name"):
        wf.save(tmp_path / "wf.yaml")
    assert not list(tmp_path.iterdir())


def test_a_constant_with_numbers_as_keys_is_not_saved() -> None:
    wf = Workflow("w")
    wf.output("y", wf.input("x", dict, default={"a": [{1: "a"}]}))
    with pytest.raises(WorkflowError, match="keys that are no words"):
        wf.to_data()


def test_policies_of_a_function_come_back_with_it() -> None:
    wf = Workflow("w")
    wf.output("y", own_module.now(wf.input("x", int)))
    wf.output("z", own_module.now.using(cache=True, retry=0, name="z")(wf.graph.outputs[0][1]))
    data = json.loads(json.dumps(wf.to_data()))
    assert "retry" not in data["steps"]["now"]
    loaded = Workflow.from_data(data, allow=[OWN], cache=MemoryCache())
    assert [node.policies for node in loaded.graph.nodes] == [node.policies for node in wf.graph.nodes]
    assert loaded.invoke(1)["y"] != loaded.invoke(1)["y"]


@pytest.mark.parametrize(
    "text",
    ["!!int ''", "!!float ''", "!!int '+'", "!!bool maybe", "!!timestamp foo", "!!map [1]", "<<: {a: 1}"],
)
def test_tags_and_merged_mappings_are_refused_with_their_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wf.yaml"
    path.write_text(f"# a comment\n{text}\n")
    with pytest.raises(WorkflowError, match="in line 2") as caught:
        parsed(path)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(120)  # minutes, if every name were compared with every other one
def test_many_names_are_read_in_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "wf.json"
    path.write_text(json.dumps({f"n{number}": number for number in range(60_000)}))
    assert len(parsed(path)) == 60_000


def test_names_of_inputs_start_with_a_letter() -> None:
    with pytest.raises(WorkflowError, match="'_x': a name starts with a letter"):
        Workflow("w").input("_x", int)


def test_a_comparison_by_a_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"no operator \[1\]"):
        steps.compare([1], 2)  # type: ignore[arg-type]


def test_pauses_stay_finite_after_any_number_of_attempts() -> None:
    assert steps.Retry(times=5000).pause(1100) == 0
    assert steps.Retry(times=5000, wait=1).pause(1100) == 30


def test_an_array_may_be_a_default() -> None:
    @steps.step
    def size(x: int, k: np.ndarray = np.eye(3)) -> int:  # noqa: B008
        return x + k.size

    wf = Workflow("w")
    wf.output("y", size(wf.input("x", int)))
    assert wf.invoke(1) == {"y": 10}


def test_map_refuses_options_that_a_workflow_would_drop() -> None:
    with pytest.raises(InputError, match="map takes retry for a step, got Workflow"):
        steps.map(Workflow("inner"), retry=3)


def test_pictures_in_a_list_become_images_where_those_are_wanted() -> None:
    @steps.step
    def paint(x: int) -> Picture:
        return Picture(pixels=np.zeros((4, 4, 3), np.uint8))

    @steps.step
    def kinds(images: list[Image]) -> list[str]:
        return [type(one).__name__ for one in images]

    wf = Workflow("w")
    wf.output("y", kinds(steps.gather()(paint(steps.each()(wf.input("xs", list[int]))))))
    assert wf.invoke([1, 2]) == {"y": ["Image", "Image"]}


def test_handles_in_a_list_are_refused_in_words() -> None:
    wf = Workflow("w")
    x = wf.input("x", int)
    wf.output("y", wf.graph.add(total, ([inc(x), x],), {}))
    with pytest.raises(
        WorkflowError, match=r"step 'total', port 'values': expected .* got handles in a list"
    ):
        wf.check()
