"""Every step that failed is told, whether an output needs it or not, and told once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from superlink import Image, StepError, Workflow, steps
from superlink.workflows.graph.results import Result
from tests.workflows.graph.toys import add, double, inc, refuse_three, total, upto

ALWAYS = steps.compare(">=", 0)


@steps.step
def save(x: int) -> int:
    raise OSError("no space")


def with_a_side_step() -> Workflow:
    inner = Workflow("inner")
    x = inner.input("x", int)
    save(x)
    inner.output("y", inc(x))
    return inner


@pytest.mark.parametrize(
    "step",
    [
        steps.branch(ALWAYS, then=with_a_side_step()),
        steps.loop(with_a_side_step(), until=ALWAYS, max_rounds=2),
    ],
)
def test_a_failed_side_step_inside_a_branch_or_loop_is_an_error_of_it(step: Any) -> None:
    wf = Workflow("outer")
    wf.output("y", step(wf.input("x", int)))
    with pytest.raises(StepError, match=r"step '(branch|loop)\.save' failed: OSError: no space"):
        wf.invoke(1)


def test_a_side_step_of_a_sub_workflow_leaves_the_output_and_is_told() -> None:
    wf = Workflow("outer")
    wf.output("y", with_a_side_step()(wf.input("x", int)))
    result = wf.invoke(1, errors="return")
    assert result == {"y": 2}
    assert [error.step for error in result.errors] == ["inner.save"]


def test_a_failed_step_that_only_items_of_an_empty_list_need_is_told() -> None:
    wf = Workflow("empty")
    n = wf.input("n", int)
    wf.output("y", add(steps.each()(upto(n)), save(n)))
    result = wf.invoke(0, errors="return")
    assert result == {"y": []}
    assert [error.step for error in result.errors] == ["save"]
    assert not result.ok
    with pytest.raises(StepError, match="no space"):
        wf.invoke(0)


def test_a_failed_nested_step_that_only_items_further_in_need_is_told_with_its_place() -> None:
    wf = Workflow("empty inside")
    outer = steps.each(name="outer")(upto(wf.input("n", int)))
    inner = steps.each(name="inner")(upto(outer))
    wf.output("y", add(inner, save(outer)))
    result = wf.invoke(1, errors="return")
    assert result == {"y": [[]]}
    assert [(error.step, error.path) for error in result.errors] == [("save", (0,))]


def test_an_input_that_cannot_be_read_is_told_though_no_step_uses_it() -> None:
    wf = Workflow("unused")
    wf.input("photo", Image)
    wf.output("y", inc(wf.input("x", int)))
    result = wf.invoke({"photo": "/nonexistent.png", "x": 3}, errors="return")
    assert result["y"] == 4
    assert [(error.step, error.kind) for error in result.errors] == [("photo", "input")]


def test_an_error_is_told_once_however_many_steps_were_skipped_for_it() -> None:
    wf = Workflow("skipped")
    n = wf.input("n", int)
    bad = save(n)
    items = add(steps.each()(upto(n)), bad)
    wf.output("twice", double(double(bad)))
    wf.output("items", double(items))
    wf.output("sum", total(steps.gather()(items)))
    wf.output("fine", inc(n))
    result = wf.invoke(3, errors="return")
    assert isinstance(result, Result)
    assert len(result.errors) == 1
    assert result.errors[0].step == "save"


def test_items_that_a_step_was_told_to_leave_out_are_no_errors() -> None:
    wf = Workflow("lenient")
    checked = refuse_three(steps.each()(upto(wf.input("n", int))))
    wf.output("good", total(steps.gather(failed="skip")(double(checked))))
    assert wf.invoke(5).ok
    assert wf.invoke(5) == {"good": 2 * (0 + 1 + 2 + 4)}


def test_items_that_are_left_out_inside_of_items_are_no_errors_either() -> None:
    wf = Workflow("lenient inside")
    outer = steps.each(name="outer")(upto(wf.input("n", int)))
    inner = steps.each(name="inner")(upto(outer))
    wf.output("good", total(steps.gather(failed="skip")(refuse_three(inner))))
    result = wf.invoke(6)
    assert result == {"good": [0, 0, 1, 3, 3, 7]}
    assert result.ok


@pytest.mark.parametrize("n", [0, 3])
def test_a_step_further_out_than_the_items_that_are_left_out_is_told(n: int) -> None:
    wf = Workflow("lenient too far")
    count = wf.input("n", int)
    items = add(steps.each()(upto(count)), save(count))
    wf.output("sum", total(steps.gather(failed="skip")(items)))
    result = wf.invoke(n, errors="return")
    assert result == {"sum": 0}
    assert [error.step for error in result.errors] == ["save"]


@steps.step
def cancels(x: int) -> int:
    if x == 1:
        raise asyncio.CancelledError
    return x


@steps.step
async def cancels_later(x: int) -> int:
    if x == 1:
        raise asyncio.CancelledError
    return x


@pytest.mark.parametrize("step", [cancels, cancels.using(retry=2), cancels.using(timeout=20), cancels_later])
def test_a_step_that_cancels_itself_harms_its_item_alone(step: Any) -> None:
    wf = Workflow("cancelled")
    wf.output("y", step(wf.input("x", int)))
    first, cancelled, last = wf.batch([0, 1, 2], errors="return")
    assert (first, last) == ({"y": 0}, {"y": 2})
    assert (cancelled.kind, cancelled.attempts) == ("cancelled", 1)
    assert cancelled.step.startswith("cancels")
    assert "CancelledError" in str(cancelled)
