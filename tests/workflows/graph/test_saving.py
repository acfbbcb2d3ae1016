"""Workflows come back from files as they were, and nothing in a file runs or is guessed at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from superlink import Image, InputError, Workflow, WorkflowError, steps
from tests.workflows.graph.toys import add, double, inc, is_even, upto

TOYS = "tests.workflows.graph.toys"


def everything() -> Workflow:
    inner = Workflow("inner", description="adds")
    a, b = inner.input("a", int), inner.input("b", int, default=10, description="what is added")
    inner.output("sum", add(a, b))
    inner.output("twice", double(a))
    body = Workflow("body")
    body.output("state", inc(body.input("state", int)))
    wf = Workflow("everything", description="all that a file can hold")
    n = wf.input("n", int)
    both = inner(n, name="both")
    items = steps.each()(upto.using(retry=steps.Retry(times=1, wait=0.1), timeout=20)(n))
    wf.output("sum", both["sum"])
    wf.output("constant", add(both["twice"], b=5))
    wf.output("even", steps.gather(failed="skip")(steps.where(is_even)(items)))
    wf.output("none", steps.where(steps.compare(">", 100))(items))
    wf.output("branch", steps.branch(steps.compare("<", 3), then=double.using(name="arm"), otherwise=inc)(n))
    wf.output("loop", steps.loop(body, until=is_even, max_rounds=3, seed=4, cache=False)(n))
    return wf


def asking() -> Workflow:
    wf = Workflow("asking")
    photo, thing = wf.input("photo", Image), wf.input("thing", str)
    found = steps.detect("red {thing}", "star", threshold=0.3, retry=2)(photo, thing)
    masks = steps.segment("star", options={"sam": {"steps": 2}})(photo, found)
    wf.output("masks", masks)
    wf.output("text", steps.instruct("What is left of the {thing}?", returns="text")(photo, thing="star"))
    wf.output("made", wf.add(steps.generate("a blue star", max_new_tokens=9)))
    wf.output("merged", steps.merge(iou=0.5)(found, steps.detect("ring")(photo), image=photo))
    return wf


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_loaded_workflow_gives_what_the_saved_one_gives(tmp_path: Path, suffix: str) -> None:
    wf = everything()
    path = wf.save(tmp_path / f"wf{suffix}")
    loaded = Workflow.load(path, allow=[TOYS])
    assert loaded.to_data() == wf.to_data()
    assert loaded.describe() == wf.describe()
    for n in (2, 5, 8):
        assert loaded.invoke(n) == wf.invoke(n)
    assert loaded.invoke(2, seed=3) == wf.invoke(2, seed=3)


def test_steps_that_ask_come_back_with_all_their_settings(tmp_path: Path) -> None:
    wf = asking()
    loaded = Workflow.load(wf.save(tmp_path / "wf.yaml"))
    assert loaded.to_data() == wf.to_data()
    for node, again in zip(wf.graph.nodes, loaded.graph.nodes, strict=True):
        assert node.step is not None
        assert again.step is not None
        assert again.policies == node.policies
        assert again.step.ports == node.step.ports
        assert (again.step.asks is None) == (node.step.asks is None)
        if node.step.asks is not None and again.step.asks is not None:
            assert again.step.asks.settings == node.step.asks.settings


def test_functions_come_only_from_modules_that_were_allowed(tmp_path: Path) -> None:
    path = everything().save(tmp_path / "wf.yaml")
    with pytest.raises(WorkflowError, match=f"function of an allowed module \\(none\\), got '{TOYS}:add'"):
        Workflow.load(path)
    with pytest.raises(WorkflowError, match="allowed module"):
        Workflow.load(path, allow=["tests.workflows.graph.toy"])
    assert Workflow.load(path, allow=["tests.workflows"]).name == "everything"


def test_what_has_no_form_in_files_is_refused_by_name(tmp_path: Path) -> None:
    wf = Workflow("lambda")
    wf.output("y", steps.where(lambda x: x > 1, name="kept")(steps.each()(upto(wf.input("n", int)))))
    with pytest.raises(WorkflowError, match=r"step 'kept' cannot be saved.*steps\.compare"):
        wf.save(tmp_path / "wf.yaml")
    assert not list(tmp_path.iterdir())
    own = Workflow("own type")
    own.output("y", own.input("x", Path))
    with pytest.raises(WorkflowError, match="type Path is not one that a file can name"):
        own.to_data()


GOOD = """
version: 1
name: good
inputs: {photo: {type: Image}}
steps:
  found: {use: detect, with: {phrases: [star]}, in: {image: photo}}
outputs: {found: found}
"""

# what is replaced, by what, what the error says
BAD = [
    ("version: 1", "version: 2", "version: expected version 1, got 2"),
    ("version: 1", "", "version: expected version 1, got None"),
    ("name: good", "name: [good]", "name: expected words, got list ['good']"),
    ("name: good", "name: good\nauthor: me", "author: expected one of the fields"),
    ("type: Image", "type: Photo", "inputs.photo.type: expected a type, got no type 'Photo'"),
    ("type: Image", "tpye: Image", "inputs.photo.tpye: expected one of the fields type, default"),
    ("use: detect", "use: detekt", "steps.found.use: expected one of ask, branch"),
    ("use: detect", "use: os.system", "steps.found.use: expected one of ask, branch"),
    ("use: detect, ", "", "steps.found.use: expected words, got nothing"),
    ("phrases: [star]", "phrase: star", "steps.found.with.phrase: expected one of the fields phrases"),
    ("phrases: [star]", "phrases: star", "steps.found.with.phrases: expected a list, got str 'star'"),
    ("phrases: [star]", "phrases: []", "steps.found.with: expected values that fit, got step 'detect' needs"),
    ("phrases: [star]", "phrases: [3]", "steps.found.with: expected values that fit"),
    ("{image: photo}", "{image: foto}", "steps.found.in.image: expected the name of an input or step"),
    ("{image: photo}", "[photo]", "steps.found.in: expected a mapping, got list ['photo']"),
    ("{image: photo}", "{picture: photo}", "step 'found', port 'image': expected Image, got nothing"),
    ("{image: photo}", "{image: {value: 3}}", "port 'image': expected Image, got the constant 3"),
    ("{image: photo}", "{image: found}", "expected no step to wait for itself, got a cycle found → found"),
    ("{image: photo}}", "{image: photo}, retry: -1}", "steps.found: expected policies that fit, got retry"),
    ("{image: photo}}", "{image: photo}, retries: 1}", "steps.found.retries: expected one of the fields"),
    ("found: {use", "photo: {use", "steps.photo: expected a name of its own"),
    ("outputs: {found: found}", "outputs: {found: lost}", "outputs.found: expected the name of an input"),
    ("outputs: {found: found}", "", "workflow 'good' has no output"),
    ("outputs: {found: found}", "outputs: {a: found, a: found}", "'a' a second time (duplicate name)"),
    ("version: 1", "version: [1", "expected YAML or JSON of a workflow"),
    ("version: 1", "!!python/object/apply:os.system ['true']", "expected YAML or JSON of a workflow"),
    (GOOD, "- a\n- list", "the workflow: expected a mapping, got list"),
    (GOOD, "", "the workflow: expected a mapping, got NoneType None"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), BAD)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(WorkflowError) as caught:
        Workflow.load(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_good_file_is_good(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    assert Workflow.load(path).describe()["steps"] == [
        {"name": "found", "kind": "detect", "returns": "Boxes", "nested": 0}
    ]
    (tmp_path / "twice.json").write_text('{"version": 1, "version": 1}')
    with pytest.raises(WorkflowError, match="second time"):
        Workflow.load(tmp_path / "twice.json")
    with pytest.raises(InputError, match="cannot be read"):
        Workflow.load(tmp_path / "missing.yaml")


def test_conditions_and_bodies_in_files_are_checked() -> None:
    data = everything().to_data()
    for step, key, value, said in (
        ("where", "condition", {"compare": "~", "to": 1}, "no operator '~'"),
        ("where", "condition", {"code": "x > 1"}, "steps.where.with.condition.code"),
        ("where", "condition", {"function": "os:system"}, "function of an allowed module"),
        ("loop", "max_rounds", 0, "max_rounds is a whole number from 1"),
        ("loop", "body", {"use": "caption"}, "for the next round"),
        ("branch", "then", {"use": "nothing"}, "steps.branch.with.then.use"),
        ("branch", "then", {"use": "workflow", "workflow": {"name": "x"}}, "one output"),
    ):
        changed = json.loads(json.dumps(data))
        changed["steps"][step]["with"][key] = value
        with pytest.raises(WorkflowError) as caught:
            Workflow.from_data(changed, allow=[TOYS])
        assert said in str(caught.value)


def test_a_drawing_and_a_text_of_the_graph_name_all_steps(tmp_path: Path) -> None:
    wf = asking()
    text = wf.mermaid()
    assert text.startswith("flowchart TD\n")
    for name in ("photo", "detect", "segment", "merge", "masks"):
        assert name in text
    nodes = [line.split("[")[0].split("(")[0].strip() for line in text.splitlines() if "-->" not in line][1:]
    for line in text.splitlines():
        if "-->" in line:
            start, _, end = line.strip().partition(" -->")
            assert start in nodes
            assert end.rpartition(" ")[2] in nodes
    drawn = wf.draw()
    assert drawn.save(tmp_path / "graph.png").is_file()
    assert drawn.pixels.shape[0] > 200


def test_an_arrow_that_passes_a_step_is_drawn_beside_it() -> None:
    wf = Workflow("heads")
    photo = wf.input("photo", Image)
    wf.output("heads", steps.crop()(photo, steps.detect("head")(photo)))
    line = (wf.draw().pixels == (80, 96, 112)).all(-1).astype(int)
    strokes = (np.diff(line, axis=1, prepend=0) == 1).sum(1)
    assert strokes.max() == 3  # both sides of the step, and the arrow


def test_yaml_is_plain_and_in_the_order_of_building() -> None:
    data = everything().to_data()
    assert list(yaml.safe_load(yaml.safe_dump(data, sort_keys=False))["steps"]) == [
        node.name for node in everything().graph.nodes
    ]


def test_a_workflow_that_contains_itself_cannot_be_saved(tmp_path: Path) -> None:
    wf = Workflow("circle")
    wf.output("o", wf(wf.input("x", int)))
    with pytest.raises(WorkflowError, match="'circle' contains itself"):
        wf.save(tmp_path / "wf.yaml")
    assert not list(tmp_path.iterdir())


LAUGHS = "".join(f"  x{n + 1}: &x{n + 1} [{', '.join([f'*x{n}'] * 10)}]\n" for n in range(8))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("name: good", "name: &n [*n]"), "more than 1,000,000 values; aliases"),
        (GOOD + "description:\n  x0: &x0 [ha, ha]\n" + LAUGHS, "more than 1,000,000 values; aliases"),
        ("[" * 5000, "more than 100 brackets in each other"),
        (GOOD + "[1, 2]: 3\n", "unhashable key"),
        (GOOD.replace("Image", f"'{'list[' * 2000}int{']' * 2000}'"), "lists in lists go 20 deep at most"),
    ],
    ids=["endless", "laughs", "deep", "list as key", "deep type"],
)
def test_texts_that_grow_without_end_are_refused_in_time(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(WorkflowError) as caught:
        Workflow.load(path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Workflow.load("a\0b")
    with pytest.raises(InputError, match="the path of a file, got NoneType"):
        Workflow.load(None)
    with pytest.raises(InputError, match="more than 10,000,000 bytes"):
        Workflow.load("/dev/zero")
