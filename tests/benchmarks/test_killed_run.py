"""The benchmark of killed runs measures what it says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import killed_run


@pytest.mark.slow
def test_a_run_that_was_killed_half_way_comes_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    killed_run.main(["--pictures", "16", "--formats", "yolo"])
    report = json.loads(capsys.readouterr().out)
    found = report["formats"]["yolo"]
    assert report["equal"]
    assert found["files"] > 16  # labels of every picture, and what they mean
    assert 8 <= found["done_before_the_kill"] < 16


def test_only_numbers_that_were_rounded_otherwise_are_near() -> None:
    assert killed_run.distance(b'{"score": 0.8284051418304443}', b'{"score": 0.8284050822257996}') < 1e-6
    assert killed_run.distance(b"a 0.5 b", b"a 0.25 b") == 0.5
    for other in (b"a 0.5 c", b"a 0.5 b 1", b"a 1 b", b""):  # whole numbers are counts and pixels
        assert killed_run.distance(b"a 0.5 b", other) == math.inf
    assert killed_run.distance(b"1", b"2") == math.inf


def test_a_difference_is_shown_with_what_stands_around_it() -> None:
    first, second = killed_run.difference(b"x" * 100 + b"1, 2", b"x" * 100 + b"1, 3")
    assert (first[-6:], second[-6:]) == ("x1, 2'", "x1, 3'")
    assert killed_run.difference(b"ab", b"abc") == ["b'ab'", "b'abc'"]


def test_notes_of_writers_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("labels/a.txt", "labels/b.txt", ".records/yolo/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert killed_run.files_of(tmp_path) == {"labels/a.txt": b"labels/a.txt", "labels/b.txt": b"labels/b.txt"}
