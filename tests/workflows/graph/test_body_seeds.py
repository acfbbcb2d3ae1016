"""Steps inside branches and loops have seeds of their own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from superlink import DiskCache, MemoryCache, Workflow, steps

ALWAYS = steps.compare(">=", 0)


@steps.step
def draw(x: int, *, seed: int) -> int:
    return seed


@steps.step
def ones(n: int) -> list[int]:
    return [1] * n


def nested(step: Any) -> Workflow:
    wf = Workflow("nested")
    wf.output("y", step(steps.each()(ones(wf.input("n", int)))))
    return wf


def drawing_loop(drawn: list[int], **policies: Any) -> Any:
    @steps.step(**policies)
    def noted(x: int, *, seed: int) -> int:
        drawn.append(seed)
        return x

    return steps.loop(noted, until=lambda x: False, max_rounds=3)


def test_seeds_inside_a_branch_differ_between_nested_items_and_are_the_same_in_every_run() -> None:
    wf = nested(steps.branch(ALWAYS, then=draw))
    first = wf.invoke(3)["y"]
    assert len(set(first)) == 3
    assert wf.invoke(3)["y"] == first
    assert wf.batch([3, 3]) == [{"y": first}] * 2
    assert set(wf.invoke(3, seed=1)["y"]).isdisjoint(first)


def test_seeds_of_one_step_in_two_branches_and_outside_of_them_differ() -> None:
    wf = Workflow("branches")
    x = wf.input("x", int)
    wf.output("plain", draw(x))
    wf.output("one", steps.branch(ALWAYS, then=draw)(x))
    wf.output("other", steps.branch(ALWAYS, then=draw)(x))
    wf.output("deep", steps.branch(ALWAYS, then=steps.branch(ALWAYS, then=draw))(x))
    assert len(set(wf.invoke(1).values())) == 4


@pytest.mark.parametrize("policies", [{}, {"seed": 5}])
def test_seeds_differ_between_rounds_of_a_loop_and_between_nested_items(policies: dict[str, int]) -> None:
    drawn: list[int] = []
    wf = nested(drawing_loop(drawn, **policies))
    wf.invoke(2, {"max_concurrency": 1})
    assert len(set(drawn)) == 6
    again = list(drawn)
    wf.invoke(2, {"max_concurrency": 1})
    assert drawn == again * 2


def test_seeds_outside_of_branches_follow_from_run_step_and_item_alone() -> None:
    def expected(name: str, path: tuple[int, ...]) -> int:
        return int.from_bytes(hashlib.sha256(f"7/{name}/{path}".encode()).digest()[:4], "big")

    assert nested(draw).invoke(2, seed=7)["y"] == [expected("draw", (0,)), expected("draw", (1,))]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_cache_does_not_mix_up_the_nested_items_of_a_branch(tmp_path: Path, on_disk: bool) -> None:
    cache = DiskCache(tmp_path) if on_disk else MemoryCache()
    wf = nested(steps.branch(ALWAYS, then=draw))
    first = wf.invoke(3)
    assert wf.using(cache=cache).invoke(3) == first
    assert wf.using(cache=cache).invoke(3) == first
