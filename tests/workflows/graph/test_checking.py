"""What is wrong with a workflow is found before anything runs, with step, port, expected and given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import pytest

from superlink import Boxes, Image, InputError, Masks, Workflow, WorkflowError, steps
from tests.workflows.graph.toys import add, inc, shout, total, upto


def workflow() -> Workflow:
    return Workflow("wrong")


def wrong_type() -> Workflow:
    wf = workflow()
    wf.output("y", shout(inc(wf.input("x", int))))
    return wf


def wrong_input_type() -> Workflow:
    wf = workflow()
    wf.output("y", inc(wf.input("x", str)))
    return wf


def wrong_artifact() -> Workflow:
    wf = workflow()
    photo = wf.input("photo", Image)
    wf.output("y", steps.crop()(photo, steps.caption()(photo)))
    return wf


def wrong_union() -> Workflow:
    wf = workflow()
    wf.output("y", inc(wf.input("x", int | str)))
    return wf


def unknown_port() -> Workflow:
    wf = workflow()
    wf.output("y", inc(y=wf.input("x", int)))
    return wf


def too_many_inputs() -> Workflow:
    wf = workflow()
    x = wf.input("x", int)
    wf.output("y", inc(x, x))
    return wf


def port_given_twice() -> Workflow:
    wf = workflow()
    x = wf.input("x", int)
    wf.output("y", add(x, x, a=x))
    return wf


def missing_input() -> Workflow:
    wf = workflow()
    wf.output("y", add(wf.input("x", int)))
    return wf


def missing_picture() -> Workflow:
    wf = workflow()
    wf.input("x", int)
    wf.output("y", wf.add(steps.detect("star")))
    return wf


def cycle() -> Workflow:
    wf = workflow()
    first = inc(wf.input("x", int))
    second = inc(first)
    first.node.positional = (second,)
    wf.output("y", second)
    return wf


def duplicate_step() -> Workflow:
    wf = workflow()
    x = wf.input("x", int)
    wf.output("y", add(inc.using(name="twin")(x), inc.using(name="twin")(x)))
    return wf


def duplicate_input() -> Workflow:
    wf = workflow()
    wf.output("y", add(wf.input("x", int), wf.input("x", int)))
    return wf


def duplicate_output() -> Workflow:
    wf = workflow()
    x = inc(wf.input("x", int))
    wf.output("y", x)
    wf.output("y", x)
    return wf


def bad_name() -> Workflow:
    wf = workflow()
    wf.output("y", inc.using(name="not a name!")(wf.input("x", int)))
    return wf


def no_output() -> Workflow:
    wf = workflow()
    inc(wf.input("x", int))
    return wf


def handle_of_another_workflow() -> Workflow:
    wf = workflow()
    wf.output("y", add(wf.input("x", int), Workflow("other").input("z", int)))
    return wf


def output_without_handle() -> Workflow:
    wf = workflow()
    wf.input("x", int)
    wf.output("y", 5)
    return wf


def wrong_constant() -> Workflow:
    wf = workflow()
    wf.output("y", add(wf.input("x", int), b="five"))
    return wf


def gather_of_a_single_item() -> Workflow:
    wf = workflow()
    wf.output("y", steps.gather()(wf.input("x", int)))
    return wf


def where_of_a_single_item() -> Workflow:
    wf = workflow()
    wf.output("y", steps.where(bool)(wf.input("x", int)))
    return wf


def two_nestings() -> Workflow:
    wf = workflow()
    n = wf.input("n", int)
    wf.output("y", add(steps.each(name="one")(upto(n)), steps.each(name="other")(upto(n))))
    return wf


def gathered_items_of_a_wrong_type() -> Workflow:
    wf = workflow()
    wf.output("y", total(steps.gather()(shout(steps.each()(wf.input("words", list[str]))))))
    return wf


def each_of_no_list() -> Workflow:
    wf = workflow()
    wf.output("y", steps.each()(wf.input("x", int)))
    return wf


def wrong_arm_of_a_branch() -> Workflow:
    wf = workflow()
    wf.output("y", shout(steps.branch(bool, then=inc)(wf.input("x", int))))
    return wf


def wrong_state_of_a_loop() -> Workflow:
    wf = workflow()
    wf.output("y", steps.loop(inc, until=bool, max_rounds=2)(wf.input("x", str)))
    return wf


def sub_workflow_with_a_wrong_type() -> Workflow:
    inner = Workflow("inner")
    inner.output("y", inc(inner.input("x", int)))
    wf = workflow()
    wf.output("y", inner(wf.input("x", str)))
    return wf


def unknown_output_of_a_sub_workflow() -> Workflow:
    inner = Workflow("inner")
    inner.output("y", inc(inner.input("x", int)))
    wf = workflow()
    wf.output("z", inner(wf.input("x", int))["z"])
    return wf


def itself() -> Workflow:
    wf = workflow()
    wf.output("y", wf(wf.input("x", int)))
    return wf


def wrong_default() -> Workflow:
    wf = workflow()
    wf.output("y", inc(wf.input("x", int, default="one")))
    return wf


def no_type() -> Workflow:
    wf = workflow()
    wf.output("y", inc(wf.input("x", "integer")))
    return wf


# builder, step, port, expected, given
WRONG: list[tuple[Callable[[], Workflow], str, str, str, str]] = [
    (wrong_type, "shout", "text", "str", "int"),
    (wrong_input_type, "inc", "x", "int", "str"),
    (wrong_artifact, "crop", "items", "Boxes | Masks | Keypoints", "str"),
    (wrong_union, "inc", "x", "int", "int | str"),
    (unknown_port, "inc", "y", "x", "y"),
    (too_many_inputs, "inc", "number 2", "x", "number 2"),
    (port_given_twice, "add", "a", "one value", "two values"),
    (missing_input, "add", "b", "int", "nothing"),
    (missing_picture, "detect", "image", "Image", "nothing"),
    (cycle, "inc", "", "no step to wait for itself", "a cycle inc → inc-2 → inc"),
    (duplicate_step, "twin", "", "a name of its own", "the name of a step"),
    (duplicate_input, "x", "", "a name of its own", "the name of an input"),
    (duplicate_output, "y", "", "a name of its own", "the name of an output"),
    (bad_name, "not a name!", "", "a name", "'not a name!'"),
    (no_output, "", "", "an output", "none"),
    (
        handle_of_another_workflow,
        "add",
        "b",
        "a handle of workflow 'wrong'",
        "'z' of workflow 'other'",
    ),
    (output_without_handle, "y", "", "a handle", "int"),
    (wrong_constant, "add", "b", "int", "the constant 'five'"),
    (gather_of_a_single_item, "gather", "values", "nested Any", "a single int"),
    (where_of_a_single_item, "where", "value", "nested items", "a single item"),
    (two_nestings, "add", "b", "items of the same nesting as port 'a' (one)", "items of another (other)"),
    (gathered_items_of_a_wrong_type, "total", "values", "list[int]", "list[str]"),
    (each_of_no_list, "each", "values", "list", "int"),
    (wrong_arm_of_a_branch, "shout", "text", "str", "int"),
    (wrong_state_of_a_loop, "loop", "x", "int", "str"),
    (sub_workflow_with_a_wrong_type, "inner.x", "x", "int", "str"),
    (unknown_output_of_a_sub_workflow, "z", "", "one of the outputs y", "z"),
    (itself, "wrong", "", "", ""),
    (wrong_default, "x", "", "int", "str"),
    (no_type, "x", "", "a type", "'integer'"),
]


@pytest.mark.parametrize(("build", "step", "port", "expected", "given"), WRONG)
def test_a_wrong_graph_is_refused_with_its_place(
    build: Callable[[], Workflow], step: str, port: str, expected: str, given: str
) -> None:
    wf = build()
    with pytest.raises(WorkflowError) as caught:
        wf.check()
    error = caught.value
    assert (error.step, error.port, error.expected, error.given) == (step, port, expected, given)
    for part in (step, port, expected, given):
        assert part.strip("'") in str(error)
    with pytest.raises(WorkflowError):
        wf.invoke(1)


def test_everything_wrong_is_told_at_once() -> None:
    wf = workflow()
    x = wf.input("x", str)
    wf.output("a", inc(x))
    wf.output("b", shout(inc(x)))
    with pytest.raises(WorkflowError) as caught:
        wf.check()
    assert [(one.step, one.port) for one in caught.value.problems] == [
        ("inc", "x"),
        ("inc-2", "x"),
        ("shout", "text"),
    ]


def test_nothing_has_run_when_a_graph_is_refused(calls: list[str]) -> None:
    wf = wrong_type()
    with pytest.raises(WorkflowError):
        wf.invoke(1)
    assert calls == []


def test_parameters_are_refused_where_they_are_given() -> None:
    for make in (
        lambda: steps.detect(),
        lambda: steps.detect(""),
        lambda: steps.detect("star", retry=-1),
        lambda: steps.detect("star", timeout=0),
        lambda: steps.crop(scale=0),
        lambda: steps.select("prettiest"),
        lambda: steps.loop(inc, until=bool, max_rounds=0),
        lambda: steps.compare("~", 1),
        lambda: steps.instruct("Find every star.", returns="stars"),
        lambda: steps.detect("{not a port} star"),
        lambda: steps.merge(failed="ignore"),
    ):
        with pytest.raises(InputError):
            make()


def test_arms_and_bodies_that_do_not_fit_are_refused() -> None:
    two = Workflow("two")
    x = two.input("x", int)
    two.output("a", inc(x))
    two.output("b", x)
    with pytest.raises(WorkflowError, match="one output, 'two' has 2"):
        steps.branch(bool, then=two)
    with pytest.raises(WorkflowError, match="got neither"):
        steps.branch(bool)
    with pytest.raises(WorkflowError, match="expected int for the next round, got float"):
        steps.loop(_half, until=bool, max_rounds=2)
    with pytest.raises(WorkflowError, match=r"'inc' takes 1 values and 'add' 2"):
        steps.branch(bool, then=inc, otherwise=add)


@steps.step
def _half(x: int) -> float:
    return x / 2


def test_a_handle_says_that_it_has_no_value_yet() -> None:
    x = workflow().input("x", int)
    with pytest.raises(TypeError, match=r"use steps\.branch"):
        bool(x)
    with pytest.raises(TypeError, match="one by one"):
        list(x)


def test_types_that_follow_from_others_are_inferred() -> None:
    wf = workflow()
    photo = wf.input("photo", Image)
    kept = steps.filter(score=0.5)(steps.segment("star")(photo))
    crops = steps.crop()(photo, kept)
    wf.output("kept", kept)
    wf.output("again", steps.merge()(steps.uncrop()(steps.detect("star")(crops), crops)))
    wf.output("crops", steps.gather()(crops))
    wf.output("either", steps.branch(bool, then=inc, otherwise=_half)(wf.input("n", int)))
    found = {one["name"]: (one["type"], one["nested"]) for one in wf.describe()["outputs"]}
    assert found == {
        "kept": ("Masks", 0),
        "again": ("Boxes", 0),
        "crops": ("list[Image]", 0),
        "either": ("int | float", 0),
    }
    assert Boxes is not Masks


def test_annotations_that_say_nothing_about_classes_are_left_alone() -> None:
    wf = workflow()
    wf.output("y", _protocol(_literal(wf.input("x", int))))
    assert wf.invoke(1) == {"y": "low"}


class _Sized(Protocol):
    def __len__(self) -> int: ...


@steps.step
def _literal(x: int) -> Literal["low", "high"]:
    return "high" if x > 1 else "low"


@steps.step
def _protocol(x: _Sized) -> _Sized:
    return x


def test_what_is_no_step_option_or_name_is_told_at_once() -> None:
    for make, said in (
        (lambda: steps.crop(retires=2), "a step has no option 'retires'; every step takes name, retry"),
        (lambda: steps.detect("star", name=5), "the name of a step is words, got 5"),
        (lambda: steps.detect("star", treshold=0.5), "a step has no option 'treshold'"),
        (lambda: steps.detect("star", threshold=float("nan")), "the threshold is a score in 0..1, got nan"),
        (lambda: steps.caption(max_new_tokens=0), "max_new_tokens is a whole number from 1, got 0"),
        (lambda: steps.generate("a star", options=5), "options are given by decoder, as in .* got 5"),
        (lambda: steps.crop(seed=2**64), "at most 64 bits"),
        (lambda: Workflow(5), "the name of a workflow is words, got 5"),
        (lambda: Workflow("x", asks=0), "asks is a whole number from 1, got 0"),
        (lambda: Workflow("x", seed="1"), "the seed is a whole number"),
        (lambda: Workflow("x").using(asks=True), "asks is a whole number from 1, got True"),
    ):
        with pytest.raises(InputError, match=said):
            make()
    with pytest.raises(WorkflowError, match=r"add takes a step, got builtin_function_or_method; steps\.step"):
        Workflow("x").add(len)
    with pytest.raises(WorkflowError, match="step 'int': its parameters are not known"):
        steps.step(int)
    unnamed = Workflow("x")
    unnamed.output(None, unnamed.input("a", int))
    with pytest.raises(WorkflowError, match="output None: expected a name"):
        unnamed.check()
