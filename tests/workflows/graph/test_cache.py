"""Only what changed runs again; a recorded run needs no system."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

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
    Turn,
    Workflow,
    steps,
)
from superlink.decoders.artifacts import Origin, Text, equal
from superlink.workflows.graph.digests import digest
from superlink.workflows.graph.stored import NotStorable, from_bytes, to_bytes
from tests.workflows.graph.toys import add, double, inc, note, refuse_three


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


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(12.0).reshape(3, 4)[::-1, ::2],
        np.zeros((0, 4), np.float16),
        np.asarray(2.5),
        np.asarray(["a", "words"]),
        np.asarray(["2026-01-02"], "M8[D]"),
        np.ones((3, 5), np.bool_),
    ],
)
def test_an_array_comes_back_with_its_bytes_shape_kind_and_layout(array: np.ndarray[Any, Any]) -> None:
    (again,) = from_bytes(to_bytes([array]))
    assert (again.dtype.str, again.shape) == (array.dtype.str, array.shape)
    assert again.tobytes() == array.tobytes()
    assert again.flags.fnc == array.flags.fnc
    assert again.flags.writeable


def test_records_and_objects_are_not_stored() -> None:
    for array in (np.zeros(2, [("a", "i4")]), np.asarray([object()])):
        with pytest.raises(NotStorable):
            to_bytes([array])


def test_reading_a_value_leaves_pythons_parser_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")  # as it does among threads now and then

    data = to_bytes([np.arange(6), np.float32(1.5)])
    monkeypatch.setattr("ast.literal_eval", fails)
    monkeypatch.setattr("ast.parse", fails)
    assert from_bytes(data)[1] == np.float32(1.5)


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


class Clerk:
    """A system that answers everything with its own words."""

    name = "clerk"
    decoders = ()

    def ask(self, text: Any, **settings: Any) -> Any:
        turns = [Turn(text=one, raw=one) for one in ([text] if isinstance(text, str) else text)]
        return turns[0] if isinstance(text, str) else turns


def words_workflow(*, replay: bool, folder: Path) -> Workflow:
    wf = Workflow("words", system=Clerk(), cache=DiskCache(folder, replay=replay))
    said = steps.instruct("say {word}", returns="text", image=False)(wf.input("word", str))
    wf.output("letters", size(letters(said)))
    return wf


@steps.step
def letters(words: str) -> set[str]:
    note("letters")
    return set(words)


@steps.step
def size(letters: set[str]) -> int:
    return len(letters)


def test_a_replay_lacks_only_what_is_asked_and_makes_everything_else_again(
    calls: list[str], tmp_path: Path
) -> None:
    first = words_workflow(replay=False, folder=tmp_path).invoke("one")
    replayed = words_workflow(replay=True, folder=tmp_path)
    assert replayed.invoke("one") == first
    assert calls == ["letters", "letters"]  # a set has no stored form
    with pytest.raises(StepError, match="the recording has no value") as caught:
        replayed.invoke("two")
    assert (caught.value.step, caught.value.kind) == ("instruct", "missing")


def test_a_replay_adds_nothing_to_its_recording(tmp_path: Path) -> None:
    number_workflow(DiskCache(tmp_path)).invoke(1)
    replay = DiskCache(tmp_path, replay=True)
    before = len(replay)
    assert number_workflow(replay).invoke(2) == {"y": 8}
    assert len(replay) == before


@steps.step
def large(x: int) -> list[float]:
    note("large")
    return [x + number / 7 for number in range(3000)]


def large_workflow(cache: DiskCache) -> Workflow:
    wf = Workflow("large", cache=cache)
    x = wf.input("x", int)
    wf.output("large", large(x))
    wf.output("small", inc(x))
    return wf


def full(path: Path, data: bytes) -> Path:
    raise InputError(f"cannot write {str(path)!r}: No space left on device")


def test_a_cache_that_cannot_be_written_costs_no_result_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("superlink.workflows.graph.cache.write_whole", full)
    results = large_workflow(DiskCache(tmp_path)).batch([1, 2])
    assert [result["large"][0] for result in results] == [1, 2]
    (said,) = [record.getMessage() for record in caplog.records if "the cache" in record.getMessage()]
    assert "No space left on device" in said


def test_a_database_that_takes_nothing_more_costs_no_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(tmp_path)
    cache._database.execute("PRAGMA query_only = ON")
    wf = Workflow("words", system=Clerk(), cache=cache)
    wf.output("said", steps.instruct("say {w}", returns="text", image=False)(wf.input("w", str)))
    assert "one" in wf.invoke("one")["said"]
    assert len([record for record in caplog.records if "the cache" in record.getMessage()]) == 1


def test_a_damaged_value_is_made_again_and_mended(calls: list[str], tmp_path: Path) -> None:
    first = large_workflow(DiskCache(tmp_path)).invoke(1)
    (file,) = (tmp_path / "values").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StepError, match="a stored value is damaged"):
        large_workflow(DiskCache(tmp_path, replay=True)).invoke(1)
    for _ in range(2):
        assert large_workflow(DiskCache(tmp_path)).invoke(1) == first
    assert calls.count("large") == 2


def test_bytes_that_were_damaged_anywhere_are_one_clear_error_or_no_harm() -> None:
    data = to_bytes({"array": np.arange(6), "words": "words"})
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        with suppress(InputError):  # some bytes say nothing, such as the time of a file in the archive
            from_bytes(damaged)


class Pair(NamedTuple):
    first: int
    second: int


class Color(IntEnum):
    RED = 1


class Words(str):
    pass


class Numbers(dict[str, int]):
    pass


@pytest.mark.parametrize("value", [Pair(1, 2), Color.RED, Words("x"), Numbers(a=1), {Words("x"): 1}])
def test_a_kind_of_its_own_does_not_come_back_as_the_plain_one(value: object, tmp_path: Path) -> None:
    with pytest.raises(NotStorable):
        to_bytes([value])
    cache = DiskCache(tmp_path)
    cache.keep("k", value)
    assert cache.find("k") is None


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(3), np.bool_(True), np.float64(0.1)])
def test_a_number_of_an_array_comes_back_with_its_type(value: object) -> None:
    again = from_bytes(to_bytes([value]))
    assert (again, type(again[0])) == ([value], type(value))


def test_a_named_tuple_reaches_the_next_step_with_its_names_in_every_run(tmp_path: Path) -> None:
    @steps.step
    def pair(x: int) -> Pair:
        return Pair(x, x + 1)

    @steps.step(cache=False)
    def second(pair: Pair) -> int:
        return pair.second

    wf = Workflow("pairs", cache=DiskCache(tmp_path))
    wf.output("y", second(pair(wf.input("x", int))))
    assert [wf.invoke(1), wf.invoke(1)] == [{"y": 2}, {"y": 2}]


def cached(function: Any, cache: MemoryCache, kind: Any = int) -> Workflow:
    wf = Workflow("cached", cache=cache)
    wf.output("y", steps.step(function)(wf.input("x", kind)))
    return wf


@dataclass
class Known:
    factor: int

    def scale(self, x: int) -> int:
        note("scale")
        return x * self.factor


class Unknown:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def scale(self, x: int) -> int:
        return x * self.factor


@pytest.mark.parametrize("kind", [Known, Unknown])
def test_methods_of_two_objects_do_not_share_values(kind: Any) -> None:
    cache = MemoryCache()
    assert [cached(kind(factor).scale, cache).invoke(10)["y"] for factor in (2, 3)] == [20, 30]


def test_a_method_of_an_object_with_known_content_is_kept(calls: list[str]) -> None:
    cache = MemoryCache()
    for _ in range(2):
        assert cached(Known(2).scale, cache).invoke(10) == {"y": 20}
    assert calls == ["scale"]


def test_methods_that_functions_hold_on_to_are_part_of_them() -> None:
    def scaled(factor: int) -> Any:
        scale = Known(factor).scale

        def by_method(x: int) -> int:
            return scale(x)

        return by_method

    cache = MemoryCache()
    assert [cached(scaled(factor), cache).invoke(10)["y"] for factor in (2, 3)] == [20, 30]


def test_what_a_decorator_adds_is_part_of_the_function(calls: list[str]) -> None:
    def times(factor: int) -> Any:
        def decorated(function: Any) -> Any:
            @wraps(function)
            def scaled(x: int) -> int:
                note("scaled")
                return factor * int(function(x))

            return scaled

        return decorated

    def plain(x: int) -> int:
        return x

    cache = MemoryCache()
    assert [cached(times(factor)(plain), cache).invoke(10)["y"] for factor in (2, 3, 2)] == [20, 30, 20]
    assert calls == ["scaled", "scaled"]


def test_a_picture_of_another_name_is_another_one_for_a_function_and_the_same_for_other_steps() -> None:
    @steps.step
    def label(image: Image) -> str:
        note("label")
        return image.name

    pixels = np.zeros((4, 4, 3), np.uint8)
    one, other = (replace(Image.of(pixels), name=name) for name in ("one.png", "other.png"))
    wf = cached(label, MemoryCache(), Image)
    assert [wf.invoke(image)["y"] for image in (one, other, one)] == ["one.png", "other.png", "one.png"]
    assert digest([one]) == digest([other])
    assert digest([one], names=True) != digest([other], names=True)


def test_a_function_that_holds_itself_is_kept_like_any_other(calls: list[str]) -> None:
    def made(last: int) -> Any:
        def factorial(n: int) -> int:
            note(f"factorial {n}")
            return last if n < 2 else n * int(factorial(n - 1))

        return factorial

    cache = MemoryCache()
    assert cached(made(1), cache).invoke(3) == {"y": 6}
    assert cached(made(1), cache).invoke(3) == {"y": 6}
    assert len(calls) == 3
    assert cached(made(2), cache).invoke(3) == {"y": 12}


def test_what_holds_itself_in_another_way_is_not_kept_but_runs() -> None:
    endless: list[Any] = []
    endless.append(endless)

    def depth(x: int) -> int:
        return x + len(endless)

    assert cached(depth, MemoryCache()).invoke(1) == {"y": 2}
    assert digest(endless) is None
