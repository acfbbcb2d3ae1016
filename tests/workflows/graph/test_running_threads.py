"""Threads of runs: coroutines, runs inside of steps, forks, and steps that want the process to end."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from superlink import steps
from superlink.workflows.graph import run as run_module
from tests.workflows.graph.test_running import chain
from tests.workflows.graph.toys import double, inc


def test_coroutine_functions_are_steps_too() -> None:
    @steps.step
    async def later(x: int) -> int:
        return x + 1

    assert [result["y"] for result in chain(later, later).batch([1, 2])] == [3, 4]


def test_a_workflow_may_run_inside_a_step_of_another_in_every_thread_at_once() -> None:
    inner = chain(inc, double)

    @steps.step
    def outer(x: int) -> int:
        return int(sum(result["y"] for result in inner.batch([x, x])))

    wf = chain(outer)
    assert [result["y"] for result in wf.batch(range(40), max_concurrency=20)] == [
        4 * (x + 1) for x in range(40)
    ]


def test_batches_inside_batches_cannot_lock_each_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPoolExecutor(4)
    monkeypatch.setattr(run_module, "_pool", lambda: pool)
    leaf = chain(inc)

    @steps.step
    def middle(x: int) -> int:
        time.sleep(0.05)  # so that every thread of the pool comes to wait for a batch
        return int(leaf.batch([x, x])[0]["y"])

    inner = chain(middle)

    @steps.step
    def outer(x: int) -> int:
        return int(sum(result["y"] for result in inner.batch([x, x])))

    found: list[Any] = []
    work = threading.Thread(
        target=lambda: found.extend(chain(outer).batch(range(8), max_concurrency=8)), daemon=True
    )
    work.start()
    work.join(60)
    assert [result["y"] for result in found] == [2 * (x + 1) for x in range(8)]


def test_an_exit_inside_a_coroutine_step_reaches_the_caller_and_harms_no_later_one() -> None:
    @steps.step
    async def leave(x: int) -> int:
        if x == 1:
            raise SystemExit(3)
        return x

    with pytest.raises(SystemExit):
        chain(leave).invoke(1)
    assert chain(leave).invoke(2)["y"] == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_coroutine_steps_work_in_a_forked_process() -> None:
    @steps.step
    async def later(x: int) -> int:
        return x + 1

    assert chain(later).invoke(1)["y"] == 2
    child = os.fork()
    if child == 0:
        os._exit(7 if chain(later).invoke(2)["y"] == 3 else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done
    assert os.waitstatus_to_exitcode(status) == 7
