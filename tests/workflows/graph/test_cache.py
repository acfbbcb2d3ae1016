"""Only what changed runs again; a recorded run needs no system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from superlink import (
    Boxes,
    DiskCache,
    Image,
    InputError,
    Keypoints,
    Masks,
    MemoryCache,
    Picture,
    StepError,
    Workflow,
    steps,
)
from superlink.decoders.artifacts import Origin, Text, equal
from superlink.workflows.graph.digests import digest
from superlink.workflows.graph.stored import NotStorable, from_bytes, to_bytes
from tests.workflows.graph.toys import add, double, inc, refuse_three


def number_workflow(cache: MemoryCache | DiskCache, offset: int = 1) -> Workflow:
    wf = Workflow("numbers", cache=cache)
    x = wf.input("x", int)
    wf.output("y", double(add(inc(x), b=offset)))
    return wf


@pytest.mark.parametrize("on_disk", [False, True])
def test_only_steps_that_changed_run_again(calls: list[str], tmp_path: Path, on_disk: bool) -> None:
    def cache() -> MemoryCache | DiskCache:
        return DiskCache(tmp_path) if on_disk else kept

    kept = MemoryCache()
    assert number_workflow(cache()).invoke(1) == {"y": 6}
    assert calls == ["inc", "add", "double"]
    assert number_workflow(cache()).invoke(1) == {"y": 6}
    assert calls == ["inc", "add", "double"]
    assert number_workflow(cache(), offset=2).invoke(1) == {"y": 8}
    assert calls[3:] == ["add", "double"]
    # Another way to the same value: nothing below it runs again.
    assert number_workflow(cache(), offset=1).invoke(1) == {"y": 6}
    assert len(calls) == 5


def test_a_changed_function_runs_again() -> None:
    cache, made = MemoryCache(), []

    def workflow(factor: int) -> Workflow:
        @steps.step(name="scaled")
        def scaled(x: int) -> int:
            made.append(factor)
            return x * factor

        wf = Workflow("scaled", cache=cache)
        wf.output("y", scaled(wf.input("x", int)))
        return wf

    # `made` is a list that the function holds on to: it is part of what it follows from, and grows.
    assert workflow(2).invoke(3) == {"y": 6}
    assert workflow(5).invoke(3) == {"y": 15}


def test_errors_are_not_kept_and_steps_may_opt_out(calls: list[str]) -> None:
    wf = Workflow("poison", cache=MemoryCache())
    x = wf.input("x", int)
    wf.output("y", refuse_three(x))
    wf.output("z", inc.using(cache=False)(x))
    for _ in range(2):
        wf.invoke(3, errors="return")
    assert calls.count("refuse_three 3") == 2
    assert calls.count("inc") == 2


def test_the_memory_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = MemoryCache(most=2)
    for key in ("a", "b"):
        cache.keep(key, key)
    cache.find("a")
    cache.keep("c", "c")
    assert [cache.find(key) for key in "abc"] == [("a",), None, ("c",)]


def artifacts() -> list[object]:
    rng = np.random.default_rng(0)
    xyxy = np.asarray([[1.25, 2, 3, 4], [0, 0, 9, 7]], np.float32)
    scores, labels = np.asarray([0.9, 0.1], np.float32), np.asarray([1, 0])
    shared = {"scores": scores, "labels": labels, "names": ("a", "b"), "size": (7, 9)}
    origin = Origin(id="boxes-1", source="x", decoder="d", round=2)
    photo = Image.of(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return [
        Boxes(xyxy=xyxy, origin=origin, **shared),
        Masks(masks=rng.random((2, 7, 9)) < 0.5, xyxy=xyxy, **shared),
        Keypoints(xyv=np.ones((2, 3, 3), np.float32), keypoint_names=("a", "b", "c"), xyxy=xyxy, **shared),
        Picture(pixels=photo.pixels),
        Text(text="words"),
        photo.crop(1, 2, 4, 5),
        {"a": [1, 2.5, None, True, "x"], "b": (1, (2,))},
        [photo],
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(8))
def test_values_come_back_from_bytes_exactly(number: int) -> None:
    value = artifacts()[number]
    again = from_bytes(to_bytes(value))
    assert type(again) is type(value)
    assert digest(again) == digest(value)
    assert equal(again, value) or not isinstance(value, Boxes | Masks | Keypoints | Picture | Text)
    assert digest(value) not in {digest(other) for k, other in enumerate(artifacts()) if k != number}


def test_what_is_unknown_is_neither_hashed_nor_stored() -> None:
    assert digest([object()]) is None
    with pytest.raises(NotStorable):
        to_bytes([object()])
    with pytest.raises(InputError, match="damaged"):
        from_bytes(b"nothing")


def test_a_damaged_or_foreign_cache_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be used"):
        DiskCache(tmp_path / "file")
    with pytest.raises(InputError, match="no recording"):
        DiskCache(tmp_path / "empty", replay=True)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cache.sqlite").write_bytes(b"no database at all, but long enough to look at" * 40)
    with pytest.raises(InputError, match="cannot be used"):
        DiskCache(broken)


def test_large_values_are_files_and_survive_the_process(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    photo = Image.of(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    cache.keep("k", photo)
    cache.close()
    assert len(list((tmp_path / "values").iterdir())) == 1
    found = DiskCache(tmp_path).find("k")
    assert found is not None
    assert np.array_equal(found[0].pixels, photo.pixels)
    next((tmp_path / "values").iterdir()).unlink()
    assert DiskCache(tmp_path).find("k") is None


def test_a_replay_without_the_value_says_so(tmp_path: Path) -> None:
    number_workflow(DiskCache(tmp_path)).invoke(1)
    replay = DiskCache(tmp_path, replay=True)
    assert number_workflow(replay).invoke(1) == {"y": 6}
    with pytest.raises(StepError, match="the recording has no value") as caught:
        number_workflow(replay).invoke(2)
    assert caught.value.kind == "missing"


def test_a_cache_that_cannot_be_written_is_an_error_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(key: str | None, value: object) -> None:
        raise InputError("the disk is full")

    cache = DiskCache(tmp_path)
    monkeypatch.setattr(cache, "keep", full)
    with pytest.raises(StepError, match="step 'inc' failed: the disk is full"):
        number_workflow(cache).invoke(1)
