"""`superlink chat --session` and `superlink sessions`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from superlink.agents.session_store import SessionStore
from superlink.router.errors import InputError
from tests.superlink.conftest import Run


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERLINK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_talk_goes_on_by_its_name(run: Run, picture: Path, own_home: Path) -> None:
    first = run("chat", str(picture), "--session", "work", "--json", typed="Find the star.\n")
    assert first.exit_code == 0
    assert "session work: 0 rounds so far" in first.stderr
    second = run(
        "chat", "--session", "work", "--json", typed="And the largest of them?\n/refs boxes-1\nIt?\n"
    )
    assert second.exit_code == 0
    lines = list(map(json.loads, second.stdout.splitlines()))
    assert [line["image"] for line in lines] == [str(picture)] * 2
    assert [one["id"] for one in lines[0]["artifacts"]] == ["boxes-2", "masks-2"]
    assert (own_home / "sessions.db").is_file()


def test_a_talk_that_was_killed_has_every_round_it_answered(
    run: Run, picture: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("chat", str(picture), "--session", "work", typed="Find the star.\nAgain.\n/quit\nnever asked\n")
    assert SessionStore().info("work").rounds == 2

    def full(*_: object) -> None:
        raise InputError("database or disk is full")

    monkeypatch.setattr(SessionStore, "append", full)
    result = run("chat", "--session", "work", typed="Once more.\n")
    assert result.exit_code == 1
    assert "Here: red circle, star." in result.stdout  # the answer is told all the same
    assert "disk is full" in result.stderr


def test_a_fork_goes_on_from_an_earlier_round(run: Run, picture: Path) -> None:
    typed = "Find it.\nAgain.\n/fork other 1\nDifferently.\n/fork\n/fork other 1 2\n"
    result = run("chat", str(picture), "--session", "work", "--json", typed=typed)
    assert result.exit_code == 1
    assert "this is session other now, with 1 rounds" in result.stderr
    assert result.stderr.count("/fork needs a name") == 2
    kept = {one.name: one.rounds for one in SessionStore().list()}
    assert kept == {"other": 2, "work": 2}
    alone = run("chat", str(picture), typed="Find it.\n/fork other\n")
    assert "no store keeps this session" in alone.stderr


def test_sessions_are_listed_shown_exported_and_deleted(run: Run, picture: Path, tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "talks.db")]
    assert "no sessions in" in run("sessions", "list", *store).stdout
    for name in ("work", "play"):
        run("chat", str(picture), "--session", name, *store, typed="Find the star.\nAgain?\n")
    listed = run("sessions", "list", *store, "--json")
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == ["play", "work"]
    assert json.loads(listed.stdout.splitlines()[0])["rounds"] == 2
    play, _ = run("sessions", "list", *store).stdout.splitlines()
    assert play.startswith("play     2 rounds    1 pictures")

    shown = run("sessions", "show", "work", *store).stdout
    assert shown.startswith(f"1. Find the star.  ({picture})\n  Here: red circle, star.\n  boxes-1: ")
    lines = list(map(json.loads, run("sessions", "show", "work", *store, "--json").stdout.splitlines()))
    assert [(line["round"], line["asked"]) for line in lines] == [(1, "Find the star."), (2, "Again?")]

    exported = run("sessions", "export", "work", str(tmp_path / "out"), *store, "--json")
    assert Path(json.loads(exported.stdout)["page"]).read_text().startswith("## 1\n")
    again = run("chat", "--resume", str(tmp_path / "out"), "--json", typed="And now?\n")
    assert [one["id"] for one in json.loads(again.stdout)["artifacts"]] == ["boxes-3", "masks-3"]

    assert run("sessions", "delete", "work", *store).stdout == "deleted work\n"
    gone = run("sessions", "show", "work", *store)
    assert gone.exit_code == 1
    (line,) = gone.stderr.splitlines()
    assert line.startswith("superlink: error: no session 'work' in ")


def test_bad_usage_is_told(run: Run, tmp_path: Path) -> None:
    both = run("chat", "--session", "work", "--resume", str(tmp_path), typed="")
    assert both.exit_code == 2
    assert run("chat", "--store", str(tmp_path / "x.db"), typed="").exit_code == 2
    (tmp_path / "thesis.db").write_text("all of it " * 200)
    other = run("sessions", "list", "--store", str(tmp_path / "thesis.db"))
    assert other.exit_code == 1
    (line,) = other.stderr.splitlines()
    assert "file is not a database" in line


def test_a_name_that_is_no_text_is_missing_like_any_other(run: Run, picture: Path, tmp_path: Path) -> None:
    run("chat", str(picture), "--session", "work", typed="Find the star.\n")
    for arguments in (("show",), ("delete", "--json"), ("export", str(tmp_path / "out"))):
        command, *rest = arguments
        result = run("sessions", command, "\udcff", *rest)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(r"superlink: error: no session '\udcff' in ")
    assert SessionStore().info("work").rounds == 1


def test_an_export_leaves_the_session_file_of_another_program_alone(
    run: Run, picture: Path, tmp_path: Path
) -> None:
    run("chat", str(picture), "--session", "work", typed="Find the star.\n")
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "session.json").write_text('{"mine": "login cookies"}')
    result = run("sessions", "export", "work", str(tmp_path / "proj"))
    assert result.exit_code == 1
    assert "is not a session's folder; name a new one" in result.stderr
    assert [path.read_text() for path in (tmp_path / "proj").iterdir()] == ['{"mine": "login cookies"}']
