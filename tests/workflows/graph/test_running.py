"""Items go through the steps at their own pace, and what goes wrong harms nothing else."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from superlink import InputError, StepError, Workflow, steps
from superlink.workflows.graph.results import Result
from tests.workflows.graph.toys import add, double, inc, is_even, refuse_three, total, upto, wrong


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.most = self._inside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._inside -= 1


def chain(*names: Any) -> Workflow:
    wf = Workflow("chain")
    value = wf.input("x", int)
    for step in names:
        value = step(value)
    wf.output("y", value)
    return wf


def test_one_poisoned_item_of_64_harms_none_and_nothing_runs_twice(calls: list[str]) -> None:
    wf = chain(inc, refuse_three.using(name="poisoned"), double, double)
    results = wf.batch(range(64), errors="return", max_concurrency=8)
    bad = [result for result in results if isinstance(result, StepError)]
    assert len(results) - len(bad) == 63
    (error,) = bad
    assert results.index(error) == 2
    assert (error.step, error.kind) == ("poisoned", "error")
    assert "three is poison" in str(error)
    assert isinstance(error.__cause__, KeyError)
    assert [result["y"] for result in results if result.ok] == [4 * (x + 1) for x in range(64) if x != 2]
    assert len([call for call in calls if call.startswith("refuse_three")]) == 64
    assert calls.count("inc") == 64
    assert calls.count("double") == 2 * 63


def test_what_does_not_depend_on_a_failed_step_is_there() -> None:
    wf = Workflow("two ways")
    x = wf.input("x", int)
    wf.output("good", inc(x))
    wf.output("bad", double(refuse_three(x)))
    result = wf.invoke(3, errors="return")
    assert isinstance(result, Result)
    assert result["good"] == 4
    assert isinstance(result["bad"], StepError)
    assert not result.ok
    assert result.errors == (result["bad"],)
    with pytest.raises(StepError, match="three is poison"):
        wf.invoke(3)
    (strict,) = wf.batch([3], return_exceptions=True)
    assert isinstance(strict, StepError)


def test_a_failed_step_that_no_output_needs_is_told_as_well() -> None:
    wf = Workflow("side")
    x = wf.input("x", int)
    refuse_three(x)
    wf.output("y", inc(x))
    result = wf.invoke(3, errors="return")
    assert result["y"] == 4
    assert [error.step for error in result.errors] == ["refuse_three"]


def test_fast_branches_do_not_wait_for_a_slow_one() -> None:
    release = threading.Event()
    done = threading.Semaphore(0)

    @steps.step
    def slow(x: int) -> int:
        assert release.wait(20), "the fast branches waited for the slow one"
        return x

    @steps.step
    def follow(x: int) -> int:
        done.release()
        return x

    wf = Workflow("fan")
    x = wf.input("x", int)
    wf.output("slow", slow(x))
    for k in range(4):
        wf.output(f"fast{k}", follow(inc(x)))

    def watch() -> None:
        for _ in range(4):
            assert done.acquire(timeout=20)
        release.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert wf.invoke(1) == {"slow": 1, **{f"fast{k}": 2 for k in range(4)}}
    watcher.join()


def test_items_of_a_batch_overtake_each_other_but_results_keep_their_order() -> None:
    last = threading.Event()

    @steps.step
    def wait_for_the_last(x: int) -> int:
        if x == 0:
            assert last.wait(20)
        if x == 3:
            last.set()
        return x

    wf = chain(wait_for_the_last)
    assert [index for index, _ in wf.batch_as_completed(range(4), max_concurrency=2)][-1] == 0
    last.clear()
    assert [result["y"] for result in wf.batch(range(4), max_concurrency=2)] == [0, 1, 2, 3]


def test_inputs_are_read_only_as_there_is_room() -> None:
    taken: list[int] = []

    def endless() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield number

    results = chain(inc).batch_as_completed(endless(), max_concurrency=4)
    for _ in range(10):
        next(results)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert len(taken) < 20


def test_no_more_steps_run_at_once_than_allowed() -> None:
    crowd = Crowd()

    @steps.step
    def busy(x: int) -> int:
        with crowd:
            time.sleep(0.002)
        return x

    wf = Workflow("busy")
    x = wf.input("x", int)
    for k in range(3):
        wf.output(f"y{k}", busy(x))
    wf.batch(range(10), max_concurrency=2)
    assert crowd.most <= 2
    crowd.most = 0
    wf.batch(range(3), max_concurrency=1)
    assert crowd.most == 1
    wf.invoke(1, {"max_concurrency": 2})
    assert crowd.most <= 2


def test_no_more_steps_run_at_once_than_allowed_inside_of_branches_too() -> None:
    crowd = Crowd()

    @steps.step
    def slow(x: int, *, by: int = 0) -> int:
        with crowd:
            time.sleep(0.02)
        return x + by

    @steps.step
    def together(*values: int) -> int:
        return sum(values)

    arm = Workflow("arm")
    x = arm.input("x", int)
    arm.output("y", together(*[slow(x, by=k) for k in range(6)]))
    wf = chain(steps.branch(steps.compare(">=", 0), then=arm))
    wf.batch(range(4), max_concurrency=2)
    assert crowd.most == 2


def test_nested_items_go_their_way_one_by_one() -> None:
    wf = Workflow("nested")
    n = wf.input("n", int)
    values = inc(steps.each()(upto(n)))
    wf.output("values", values)
    wf.output("with_n", add(values, n))
    wf.output("total", total(steps.gather()(values)))
    even = steps.where(is_even)(values)
    wf.output("even", even)
    wf.output("of_even", add(even, values))
    wf.output("even_total", total(steps.gather()(even)))
    assert wf.invoke(5) == {
        "values": [1, 2, 3, 4, 5],
        "with_n": [6, 7, 8, 9, 10],
        "total": 15,
        "even": [2, 4],
        "of_even": [4, 8],
        "even_total": 6,
    }
    assert wf.invoke(0) == {
        "values": [], "with_n": [], "total": 0, "even": [], "of_even": [], "even_total": 0
    }  # fmt: skip


def test_nesting_goes_as_deep_as_it_is_opened() -> None:
    wf = Workflow("deep")
    outer = steps.each(name="outer")(upto(wf.input("n", int)))
    inner = steps.each(name="inner")(upto(outer))
    wf.output("pairs", add(outer, inner))
    sums = total(steps.gather()(inner))
    wf.output("sums", sums)
    wf.output("all", total(steps.gather(name="g")(sums)))
    wf.output("kept", steps.where(is_even)(inner))
    assert wf.invoke(4) == {
        "pairs": [[], [1], [2, 3], [3, 4, 5]],
        "sums": [0, 0, 1, 3],
        "all": 4,
        "kept": [[], [0], [0], [0, 2]],
    }


def test_a_value_gathered_further_out_is_the_same_for_every_item() -> None:
    wf = Workflow("outside")
    n = wf.input("n", int)
    one = steps.each(name="one")(upto(n))
    other = steps.each(name="other")(upto(inc(n)))
    sum_of_others = total(steps.gather()(other))
    wf.output("y", add(one, sum_of_others))
    assert wf.invoke(3) == {"y": [6, 7, 8]}


def test_one_bad_nested_item_harms_only_what_is_made_of_it() -> None:
    wf = Workflow("crops")
    checked = refuse_three(steps.each()(upto(wf.input("n", int))))
    wf.output("items", double(checked))
    wf.output("kept", steps.where(is_even)(checked))
    wf.output("sum", total(steps.gather()(checked)))
    wf.output("good", total(steps.gather(failed="skip", name="lenient")(checked)))
    result = wf.invoke(5, errors="return")
    assert result["items"][:3] + result["items"][4:] == [0, 2, 4, 8]
    error = result["items"][3]
    assert isinstance(error, StepError)
    assert error.path == (3,)
    assert str(error).startswith("step 'refuse_three'[3] failed")
    assert result["kept"] == [0, 2, error, 4]
    assert result["sum"] is error
    assert result["good"] == 7
    assert result.errors == (error,)


def test_a_list_that_cannot_be_made_takes_all_that_is_nested_in_it_along() -> None:
    wf = Workflow("broken list")
    items = inc(steps.each()(upto(refuse_three(wf.input("n", int)))))
    wf.output("items", items)
    wf.output("sum", total(steps.gather()(items)))
    (error,) = wf.batch([3], errors="return")
    assert isinstance(error, StepError)
    assert error.step == "refuse_three"


def test_map_runs_a_step_or_workflow_on_every_element() -> None:
    body = Workflow("body")
    x = body.input("x", int)
    body.output("y", add(double(x), body.input("offset", int)))
    wf = Workflow("mapped")
    n = wf.input("n", int)
    wf.output("simple", steps.gather()(steps.map(inc)(upto(n))))
    wf.output("deep", steps.map(body)(upto(n), n))
    assert wf.invoke(3) == {"simple": [1, 2, 3], "deep": [3, 5, 7]}


def test_a_branch_runs_only_one_arm(calls: list[str]) -> None:
    wf = Workflow("branch")
    x = wf.input("x", int)
    wf.output("y", steps.branch(is_even, then=double, otherwise=inc)(x))
    wf.output("z", steps.branch(steps.compare(">", 10), then=double)(x))
    assert wf.invoke(4) == {"y": 8, "z": 4}
    assert calls == ["double"]
    assert wf.invoke(11) == {"y": 12, "z": 22}


def test_a_loop_ends_when_its_condition_is_true_or_its_rounds_are_used_up(calls: list[str]) -> None:
    wf = Workflow("loop")
    x = wf.input("x", int)
    wf.output("y", steps.loop(double, until=steps.compare(">", 20), max_rounds=10)(x))
    assert wf.invoke(3) == {"y": 24}
    assert calls == ["double"] * 3
    assert wf.invoke(0) == {"y": 0}
    assert calls == ["double"] * 13


def test_an_error_inside_a_body_names_the_way_to_it() -> None:
    wf = chain(steps.loop(refuse_three, until=lambda x: False, max_rounds=3))
    with pytest.raises(StepError, match=r"step 'loop\.refuse_three' failed") as caught:
        wf.invoke(3)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_sub_workflow_is_one_step_with_named_outputs_and_no_barrier() -> None:
    inner = Workflow("inner")
    a, b = inner.input("a", int), inner.input("b", int, default=10)
    inner.output("sum", add(a, b))
    inner.output("twice", double(a))
    wf = Workflow("outer")
    x = wf.input("x", int)
    both = inner(x, name="both")
    wf.output("sum", both["sum"])
    wf.output("twice", both["twice"])
    wf.output("nested", inner(steps.each()(upto(x)), b=x)["sum"])
    assert wf.invoke(3) == {"sum": 13, "twice": 6, "nested": [3, 4, 5]}
    assert "both.add" in [one["name"] for one in wf.describe()["steps"]]


def test_a_workflow_that_is_changed_runs_as_it_is_then() -> None:
    inner = Workflow("inner")
    a = inner.input("a", int)
    inner.output("y", inc(a))
    wf = Workflow("outer")
    both = inner(wf.input("x", int))
    wf.output("y", both["y"])
    assert wf.invoke(1) == {"y": 2}
    inner.output("z", double(a))
    wf.output("z", both["z"])
    assert wf.invoke(1) == {"y": 2, "z": 2}


def test_a_step_is_tried_again_as_often_as_its_policy_says() -> None:
    attempts: list[int] = []

    @steps.step(retry=2)
    def third_time(x: int) -> int:
        attempts.append(x)
        if len(attempts) < 3:
            raise OSError("not yet")
        return x

    assert chain(third_time).invoke(7) == {"y": 7}
    assert attempts == [7, 7, 7]
    attempts.clear()
    with pytest.raises(StepError, match=r"OSError: not yet \(2 attempts\)") as caught:
        chain(third_time.using(retry=1)).invoke(7)
    assert caught.value.attempts == 2


def test_the_waits_between_attempts_grow_to_a_limit() -> None:
    retry = steps.Retry(times=5, wait=0.5, backoff=3.0, longest=4.0)
    assert [retry.pause(attempt) for attempt in (1, 2, 3, 4)] == [0.5, 1.5, 4.0, 4.0]


def test_a_step_that_takes_too_long_is_left_behind() -> None:
    release = threading.Event()

    @steps.step(timeout=0.05)
    def hangs(x: int) -> int:
        if x == 1:
            release.wait(20)
        return x

    results = chain(hangs, inc).batch([0, 1, 2], errors="return")
    release.set()
    assert results[0] == {"y": 1}
    assert results[2] == {"y": 3}
    assert results[1].kind == "timeout"
    assert "took longer than 0.05 s" in str(results[1])


def test_a_timeout_that_a_step_raises_itself_is_an_ordinary_error() -> None:
    @steps.step(timeout=20)
    def raises(x: int) -> int:
        raise TimeoutError("the network")

    with pytest.raises(StepError, match="TimeoutError: the network") as caught:
        chain(raises).invoke(1)
    assert caught.value.kind == "error"


def test_a_step_that_gives_the_wrong_type_is_an_error_of_that_step() -> None:
    with pytest.raises(StepError, match="step 'wrong' failed: expected int as its result, got str") as caught:
        chain(wrong, inc).invoke(1)
    assert caught.value.kind == "type"


def test_inputs_that_do_not_fit_are_errors_of_their_item_alone() -> None:
    wf = chain(inc)
    results = wf.batch([1, "two", {"x": 3}, {"y": 4}, {}], errors="return")
    assert [result.ok for result in results] == [True, False, True, False, False]
    assert "step 'x' failed: expected int, got str" in str(results[1])
    assert "expected values for x, got one for 'y'" in str(results[3])
    assert "missing input" in str(results[4])
    assert {result.kind for result in results if not result.ok} == {"input"}


def test_defaults_of_inputs_and_functions_are_used() -> None:
    @steps.step
    def power(x: int, exponent: int = 2) -> int:
        return int(x**exponent)

    wf = Workflow("defaults")
    x, n = wf.input("x", int), wf.input("n", int, default=3)
    wf.output("square", power(x))
    wf.output("n", power(x, n))
    wf.output("fourth", power(x, exponent=4))
    wf.output("fifth", power(exponent=5)(x))
    assert wf.invoke({"x": 2}) == {"square": 4, "n": 8, "fourth": 16, "fifth": 32}
    assert power(3) == 9


def test_seeds_are_the_same_in_every_run_and_differ_between_items() -> None:
    @steps.step
    def draw(x: int, *, seed: int) -> int:
        return seed

    wf = Workflow("seeds")
    n = wf.input("n", int)
    wf.output("one", draw(n))
    wf.output("each", draw(steps.each()(upto(n))))
    first = wf.invoke(3)
    assert wf.invoke(3) == first
    assert wf.batch([3, 3]) == [first, first]
    assert len({first["one"], *first["each"]}) == 4
    assert wf.invoke(3, seed=1)["one"] != first["one"]
    assert draw(3, seed=5) == 5


def test_an_exit_inside_a_step_reaches_the_caller() -> None:
    @steps.step
    def leave(x: int) -> int:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        chain(leave).batch([1, 2, 3], errors="return")


def test_what_follows_an_error_that_is_raised_does_not_start(calls: list[str]) -> None:
    with pytest.raises(StepError):
        chain(refuse_three, inc).batch([3, *range(100, 200)], max_concurrency=1)
    assert len(calls) < 10


@steps.step
def unspeakable(x: int) -> int:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    if x == 1:
        raise Unspeakable
    return x


def test_an_error_that_cannot_be_put_into_words_harms_its_item_alone() -> None:
    good, bad = chain(unspeakable).batch([0, 1], errors="return")
    assert good["y"] == 0
    assert "Unspeakable" in str(bad)


@pytest.mark.parametrize("most", [0, -1, 1.5, "2", True])
def test_a_number_of_items_at_once_that_is_none_is_refused(most: Any) -> None:
    wf = chain(inc)
    for run in (
        lambda: wf.batch([1, 2], max_concurrency=most),
        lambda: wf.batch([1, 2], {"max_concurrency": most}),
        lambda: wf.invoke(1, {"max_concurrency": most}),
    ):
        with pytest.raises(InputError, match="max_concurrency is a whole number from 1"):
            run()


@pytest.mark.parametrize("inputs", ["folder", b"x", {"x": 1}, 5])
def test_a_batch_of_one_thing_is_refused_before_its_letters_are_taken_for_inputs(inputs: Any) -> None:
    with pytest.raises(InputError, match="a batch takes a list of inputs, got"):
        chain(inc).batch(inputs)
