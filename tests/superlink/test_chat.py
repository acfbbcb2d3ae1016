"""`superlink chat` in a pipe."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from superlink.cli import main
from tests.superlink.conftest import Run, save_scene


def test_rounds_share_the_picture(run: Run, picture: Path) -> None:
    result = run("chat", str(picture), "--json", typed="Find the star.\n\nAnd the largest of them?\n")
    assert result.exit_code == 0
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["image"] == second["image"] == str(picture)
    assert [artifact["id"] for artifact in second["artifacts"]] == ["boxes-2", "masks-2"]


def test_commands_change_the_picture_and_save(run: Run, picture: Path, tmp_path: Path) -> None:
    other = save_scene(tmp_path / "other.png", 3)
    script = f"/help\nFind it.\n/image {other}\nFind it.\n/save {tmp_path / 'kept'}\n/quit\nnever asked\n"
    result = run("chat", str(picture), typed=script)
    assert result.exit_code == 0
    assert "/image PATH" in result.stdout
    assert result.stdout.count("Here: red circle, star.") == 2
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "other-2-drawn.png",
        "other-2-turn.json",
    }


def test_a_line_that_fails_is_told_and_the_talk_goes_on(run: Run, picture: Path) -> None:
    script = "/image nowhere.png\n/save\n/fly\nFind it.\n"
    result = run("chat", str(picture), "--json", typed=script)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert [line.startswith("superlink: error: ") for line in result.stderr.splitlines()] == [True] * 3
    result = run("chat", "--json", typed="word " * 10_000)
    assert "positions" in json.loads(result.stdout)["error"]


def test_a_first_picture_that_is_missing_is_one_line(run: Run) -> None:
    result = run("chat", "nowhere.png", typed="Find it.\n")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "does not exist" in line


def test_no_picture_at_all_still_talks(run: Run) -> None:
    result = run("chat", "--json", typed="Find it.\n")
    line = json.loads(result.stdout)
    assert line["image"] is None
    assert {failure["kind"] for failure in line["failures"]} == {"input"}


@pytest.mark.usefixtures("run")
def test_a_question_or_a_file_name_that_is_no_text_does_not_end_the_talk(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = picture.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    typed = b"Find it.\nFind every \xff star.\n/image %b\nAgain.\n" % os.fsencode(odd)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8", errors="strict"))
    monkeypatch.setattr(sys, "argv", ["superlink", "chat", "--session", "work", "--json"])
    monkeypatch.setenv("SUPERLINK_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1  # two questions about no picture
    lines = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [line["image"] for line in lines] == [None, None, str(odd)]
    monkeypatch.setattr(sys, "argv", ["superlink", "sessions", "show", "work"])
    with pytest.raises(SystemExit):
        main()
    assert r"2. Find every \udcff star." in capsys.readouterr().out
