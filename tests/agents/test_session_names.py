"""Names and places of saved sessions: whose a name is, and names and places that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from superlink.agents.model_folder import Model
from superlink.agents.session_store import SessionStore
from superlink.decoders.artifacts import Boxes
from superlink.router.errors import InputError
from tests.agents.test_saved_session import EDIT, FIND
from tests.agents.test_session_store import fill
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import scene

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("no_home")


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 201, 5])
def test_a_name_that_cannot_be_is_refused_before_anything_is_asked(
    family: Model, store: SessionStore, name: Any
) -> None:
    system, _ = scripted(family)
    with pytest.raises(InputError, match="a session's name is a line"):
        system.session(name=name, store=store)
    with pytest.raises(InputError, match=r"a store is a SessionStore\(path\), got str"):
        system.session(name="talk", store="talks.db")  # type: ignore[arg-type]


def test_a_fork_before_the_first_round_begins_an_empty_session(family: Model, store: SessionStore) -> None:
    system, _ = scripted(family, FIND, FIND)
    session = system.session(name="talk", store=store)
    session.ask("Find them.", image=scene())
    other = session.fork(0, name="anew")
    assert [(one.name, one.rounds) for one in store.list()] == [("anew", 0), ("talk", 1)]
    other.ask("Find them.", image=scene())
    assert len(store.read("anew").turns) == 1
    for at in ("1", 1.5, True):
        with pytest.raises(InputError, match="cannot be forked at"):
            store.fork("talk", "third", at=at)  # type: ignore[arg-type]


def test_a_session_begun_anew_under_the_name_of_a_deleted_one_is_another_one(
    family: Model, store: SessionStore
) -> None:
    system, _ = scripted(family, *[FIND] * 6)
    mine = system.session(name="work", store=store)
    mine.ask("Find them.", image=scene())
    opened = system.session(name="work", store=store)
    store.delete("work")
    with pytest.raises(InputError, match="was deleted by somebody else"):
        mine.ask("Again.")
    assert store.list() == ()
    yours = system.session(name="work", store=store)
    yours.ask("Find the others.", image=scene(seed=1))
    for old in (mine, opened):  # one that saved its first round itself, and one that read it
        with pytest.raises(InputError, match="was deleted by somebody else"):
            old.ask("Once more.")
    assert [message.text for message in store.read("work").messages if message.role == "user"] == [
        "Find the others."
    ]
    opened.fork(name="kept")
    assert {one.name: one.rounds for one in store.list()} == {"kept": 2, "work": 1}
    assert len(yours.turns) == len(system.session(name="work", store=store).turns) == 1


def test_an_empty_session_that_was_deleted_is_another_one_too(family: Model, store: SessionStore) -> None:
    system, _ = scripted(family, FIND, FIND)
    session = system.session(name="talk", store=store)
    session.ask("Find them.", image=scene())
    empty = session.fork(0, name="anew")
    store.delete("anew")
    session.fork(0, name="anew")
    with pytest.raises(InputError, match="was deleted by somebody else"):
        empty.ask("Find them.", image=scene())


def test_a_store_stays_the_same_file_when_the_process_goes_to_another_folder(
    family: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SUPERLINK_HOME", "home")
    system, _ = scripted(family, *[FIND] * 4)
    sessions = [system.session(name="work", store=SessionStore("talks.db")), system.session(name="work")]
    for session in sessions:
        session.ask("Find them.", image=scene())
    monkeypatch.chdir(tmp_path / "there")
    for session in sessions:
        session.ask("Again.")
    assert [*(tmp_path / "there").iterdir()] == []
    for path in ("here/talks.db", "here/home/sessions.db"):
        assert SessionStore(tmp_path / path).info("work").rounds == 2


@pytest.mark.parametrize("name", ["\udcff", "two\nlines", "", 5, ["work"]])
def test_what_cannot_be_a_name_is_simply_not_there(store: SessionStore, name: Any) -> None:
    fill(store, "work", 1)
    assert name not in store
    for act in (store.info, store.read, store.delete, lambda name: store.fork(name, "other")):
        with pytest.raises(InputError, match=r"no session .* in"):
            act(name)


def test_a_path_that_cannot_be_is_one_line(
    store: SessionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = SessionStore(tmp_path / ("a" * 300))
    for act in (long.list, lambda: long.read("work"), lambda: fill(long, "work", 1)):
        with pytest.raises(InputError, match=r"sessions in .*: File name too long"):
            act()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match=r"sessions in 'talks\.db': the folder .* is gone"):
        SessionStore("talks.db")


def test_the_page_has_no_drawing_of_a_round_that_found_nothing(
    family: Model, store: SessionStore, tmp_path: Path
) -> None:
    system, _ = scripted(family, "A street.", FIND, EDIT, FIND)
    session = system.session(name="work", store=store)
    for text in ("Describe it.", "Find them.", "Make it green."):
        session.ask(text, image=scene())
    assert session.turns[0].artifacts == ()
    session.ask("Find them.", threshold=1.0)
    assert [len(one) for one in session.turns[3].artifacts if isinstance(one, Boxes)] == [0]
    page = store.export("work", tmp_path / "out")
    parts = page.read_text().split("## ")[1:]
    assert [part.count("![") for part in parts] == [0, 1, 2, 0]
    assert sorted(path.name for path in (page.parent / "turns").iterdir()) == [
        "01-turn.json", "02-drawn.png", "02-turn.json", "03-drawn.png", "03-picture-1.png", "03-turn.json",
        "04-turn.json",
    ]  # fmt: skip
    first = json.loads((page.parent / "turns" / "01-turn.json").read_text())
    assert first == session.turns[0].to_json()
    again = system.session(tmp_path / "out")
    assert [turn.text for turn in again.turns] == [turn.text for turn in session.turns]
    assert again.export(tmp_path / "out") == page
