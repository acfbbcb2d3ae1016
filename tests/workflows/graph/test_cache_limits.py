"""What a cache cannot keep, who shares it, and functions that differ in a constant alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superlink.router.errors import InputError
from superlink.workflows import steps
from superlink.workflows.graph.cache import DiskCache
from superlink.workflows.graph.digests import step_identity
from superlink.workflows.graph.stored import NotStorable, to_bytes


def twenty_four(x: int) -> int:
    return x * 1 + 23


def fifteen(x: int) -> int:
    return x * 12 + 3


def renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """As an edit of one file leaves it: the same name, another constant."""
    function.__name__ = function.__qualname__ = "same"
    return function


def test_functions_that_differ_in_their_constants_alone_are_not_one() -> None:
    one, other = (steps.step(renamed(function)) for function in (twenty_four, fifteen))
    assert step_identity(one) != step_identity(other)


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [endless(), 10**5000], ids=["holds itself", "thousands of digits"])
def test_a_value_that_cannot_be_written_costs_no_result(value: object, tmp_path: Path) -> None:
    with pytest.raises(NotStorable):
        to_bytes([value])
    cache = DiskCache(tmp_path)
    cache.keep("k", value)
    assert cache.find("k") is None


def test_a_cache_that_was_closed_costs_a_step_its_time_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path)
    cache.close()
    assert cache.system(lambda: "a system") == "a system"
    assert "so some steps run again" in caplog.text


def test_a_file_of_something_else_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(InputError, match="cannot be used"):
        DiskCache(tmp_path)


ROUNDS = 40


def opened(folder: str, barrier: Any, results: Any) -> None:
    said = []
    for number in range(ROUNDS):
        barrier.wait()
        try:
            DiskCache(f"{folder}/{number}").close()
        except InputError as error:
            said.append(str(error))
    results.put(said)


def test_processes_that_open_a_new_cache_together_all_get_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [context.Process(target=opened, args=(str(tmp_path), barrier, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [[]] * 4
    for worker in workers:
        worker.join()
