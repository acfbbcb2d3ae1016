"""Sessions in SQLite: what comes back is what was saved, whoever else writes or is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superlink.agents.model_folder import Model
from superlink.agents.pictures import SourcePicture, read_picture
from superlink.agents.session import Session
from superlink.agents.session_store import Round, SessionStore, home
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Origin, Picture, equal
from superlink.router.errors import InputError
from superlink.router.messages import Box, Mask, Message, Point, Scribble
from tests.agents.test_saved_session import CUT, EDIT, FIND, same_messages, talked
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import scene

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("no_home")


def round_of(number: int, picture: SourcePicture | None, *, shown: bool = False) -> Round:
    """A question and boxes, the same whatever the size of the picture."""
    boxes = Boxes(
        xyxy=np.asarray([[1.5, 2, 9, 8.25]], np.float32),
        scores=np.asarray([0.1], np.float32),
        labels=np.zeros(1, np.int64),
        names=("star",),
        size=(40, 60),
        origin=Origin(id=f"boxes-{number}", source="" if picture is None else picture.id, round=number),
    )
    images = (picture.pixels,) if picture is not None and shown else ()
    turn = Turn(
        text="A star.", raw="A <det>star</det>[DET].", artifacts=(boxes,), image=picture, round=number
    )
    return Round(asked=(Message(role="user", text=f"Question {number}?", images=images),), turn=turn)


def fill(store: SessionStore, name: str, rounds: int, picture: SourcePicture | None = None) -> None:
    for number in range(1, rounds + 1):
        store.append(name, number, [round_of(number, picture, shown=number == 1)])


def test_a_session_comes_back_as_it_was(family: Model, store: SessionStore) -> None:
    session = talked(family)
    for number, (asked, turn) in enumerate(session._state.rounds(), start=1):
        store.append("work", number, [Round(asked=asked, turn=turn)])
    system, engine = scripted(family, FIND)
    again = system.session(name="work", store=store)
    assert [turn.to_json() for turn in again.turns] == [turn.to_json() for turn in session.turns]
    for turn, other in zip(again.turns, session.turns, strict=True):
        assert (turn.raw, turn.round, turn.timings) == (other.raw, other.round, other.timings)
        assert all(equal(one, two) for one, two in zip(turn.artifacts, other.artifacts, strict=True))
    assert session.picture is not None
    assert again.picture is not None
    assert (again.picture.id, again.picture.name) == (session.picture.id, session.picture.name)
    assert again.region_count == session.region_count == 5
    assert again._state.pictures.keys() == session._state.pictures.keys()
    again.ask("Find them again.")
    before = engine.requests[-1].conversation
    assert all(map(same_messages, before, session._state.messages))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_three_rounds_give_the_same_wherever_the_session_was_reopened(
    family: Model, store: SessionStore, kept: int
) -> None:
    replies = [FIND, "The one: <det>star</det>[SEG].", EDIT]

    def ask(session: Session, number: int) -> None:
        if number == 0:
            session.ask("Detect the star.", image=scene(seed=3))
        elif number == 1:
            session.ask("Segment the one on the left.", refs=[session.artifact("boxes-1")])
        else:
            session.ask("Make it green.", seed=4)

    system, _ = scripted(family, *replies)
    straight = system.session()
    for number in range(3):
        ask(straight, number)
    system, _ = scripted(family, *replies)
    session = system.session(name="work", store=store)
    for number in range(3):
        ask(session, number)
        if number == kept:
            session = system.session(name="work", store=store)
    assert store.info("work").rounds == 3
    for one, other in zip(straight.turns, session.turns, strict=True):
        assert one.failures == other.failures == ()
        assert all(equal(first, second) for first, second in zip(one.artifacts, other.artifacts, strict=True))


def test_plain_python_around_a_session_forks_loops_and_goes_on(family: Model, store: SessionStore) -> None:
    system, _ = scripted(family, FIND, FIND, FIND, EDIT, "Left: <det>star</det>[SEG].")
    session = system.session(name="main", store=store)
    first = session.ask("Detect them.", image=scene(seed=3))
    while len(session.turns) < 3:
        session.ask("Again?", refs=[first.boxes])
    if len(first.boxes):
        session.ask("Make it green.")
    green = session.picture
    branch = session.fork(at=first, name="left")
    assert (len(branch.turns), branch.name, branch.picture) != (4, "main", green)
    then = branch.ask("Segment the one on the left.", refs=[branch.artifact("boxes-1")])
    assert then.round == 2
    assert then.masks.origin.id == "masks-1"  # the branch has no others
    assert {one.name: one.rounds for one in store.list()} == {"left": 2, "main": 4}
    assert len(session.turns) == 4
    assert session.picture is green
    assert isinstance(session.artifact("picture-1"), Picture)
    loose = session.fork(at=0)
    assert (loose.turns, loose.name, loose.picture) == ((), None, None)


def test_a_fork_is_what_the_session_was(family: Model) -> None:
    session = talked(family)
    for at in range(len(session.turns) + 1):
        fork = session.fork(at)
        assert fork.turns == session.turns[:at]
        assert fork.region_count == (5 if at >= 3 else 0)
    assert all(map(same_messages, session.fork()._state.messages, session._state.messages))
    with pytest.raises(InputError, match="has 5 rounds, it cannot be forked at 6"):
        session.fork(6)
    with pytest.raises(InputError, match="this turn is not of this session"):
        session.fork(talked(family).turns[0])
    with pytest.raises(InputError, match="no store keeps this session"):
        session.fork(name="other")


def test_a_folder_written_before_rounds_were_told_apart_forks_where_that_is_possible(
    family: Model, tmp_path: Path
) -> None:
    system, _ = scripted(family, FIND, FIND, FIND)
    session = system.session()
    session.ask("Find them.", image=scene())
    session.ask("Again.")
    session.save(tmp_path / "plain")
    session.ask("The same.", examples=[(scene(), np.ones((40, 60), np.bool_))])
    session.save(tmp_path / "examples")
    for name in ("plain", "examples"):
        path = tmp_path / name / "session.json"
        data = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in data.items() if key != "ends"}))
    assert len(system.session(tmp_path / "plain").fork(at=1).turns) == 1
    old = system.session(tmp_path / "examples")
    assert len(old.turns) == 3
    with pytest.raises(InputError, match="saved by an older version"):
        old.fork(at=1)


def written_bytes() -> int:
    """What this process has handed to write(2) so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux's count of written bytes")
def test_after_the_first_round_what_is_written_does_not_depend_on_the_picture(tmp_path: Path) -> None:
    counts = {}
    for side in (20, 2000):  # noise: 1 kB and 12 MB as PNG
        store = SessionStore(tmp_path / f"{side}.db")
        picture = read_picture(scene(side, side))
        fill(store, "work", 1, picture)
        marks = [written_bytes()]
        for number in range(2, 21):
            store.append("work", number, [round_of(number, picture)])
            marks.append(written_bytes())
        counts[side] = np.diff(marks)
    assert (tmp_path / "2000.db").stat().st_size > 12_000_000
    # A page of SQLite is 4 kB: rounds may fall on page borders a little differently.
    assert abs(counts[20].sum() - counts[2000].sum()) <= 8 * 4096
    assert counts[2000].max() < 100_000


def test_a_picture_is_kept_once_whatever_speaks_of_it(store: SessionStore) -> None:
    picture = read_picture(scene(400, 400))
    fill(store, "one", 3, picture)
    size = store.path.stat().st_size
    fill(store, "two", 3, read_picture(scene(400, 400)))
    store.fork("one", "three", at=2)
    assert store.path.stat().st_size - size < 50_000 < size
    assert [(one.name, one.rounds, one.pictures) for one in store.list()] == [
        ("one", 3, 1), ("three", 2, 1), ("two", 3, 1)
    ]  # fmt: skip
    store.delete("one")
    store.delete("two")
    assert np.array_equal(store.read("three").pictures[picture.id].pixels, picture.pixels)
    store.delete("three")
    assert store.list() == ()
    assert store.path.stat().st_size < 60_000


def test_two_who_go_on_with_one_session_are_told(family: Model, store: SessionStore) -> None:
    system, _ = scripted(family, FIND, FIND, FIND, FIND)
    mine, yours = (system.session(name="work", store=store) for _ in range(2))
    mine.ask("Find them.", image=scene())
    with pytest.raises(InputError, match=r"has 1 rounds now, this one was to be number 1: somebody else"):
        yours.ask("Find the others.", image=scene(seed=1))
    assert len(yours.turns) == 1  # nothing that was answered is lost
    kept = yours.fork(name="yours")
    kept.ask("Once more.")
    assert {one.name: one.rounds for one in store.list()} == {"work": 1, "yours": 2}


def test_threads_write_side_by_side(store: SessionStore) -> None:
    picture = read_picture(scene())
    threads = [
        threading.Thread(target=fill, args=(SessionStore(store.path), f"thread-{k}", 10, picture))
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(one.rounds, one.pictures) for one in store.list()] == [(10, 1)] * 4


# Imports as little as it can: it starts in a fresh interpreter.
WRITES = """
import sys, time
import numpy as np
sys.path[:0] = sys.argv[2:]
from superlink.agents.pictures import read_picture
from superlink.agents.session_store import Round, SessionStore
from superlink.agents.turn import Turn
from superlink.router.messages import Message
store = SessionStore(sys.argv[1])
rng = np.random.default_rng(0)
for number in range(1, 10_000):
    picture = read_picture(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))
    asked = (Message(role="user", text="Again?", images=(picture.pixels,)),)
    turn = Turn(text="A star.", raw="A star.", image=picture, round=number)
    store.append("child", number, [Round(asked=asked, turn=turn)])
    print(number, flush=True)
    time.sleep(0.01)
"""


def test_a_process_that_is_killed_leaves_whole_rounds_and_harms_nobody(store: SessionStore) -> None:
    paths = [
        path for path in (str(ROOT / "typings"), str(ROOT)) if path not in os.environ.get("PYTHONPATH", "")
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(store.path), *paths], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    with child.stdout:
        assert int(child.stdout.readline()) == 1
        fill(store, "parent", 3)  # both at once
        child.send_signal(signal.SIGKILL)
        child.wait()
        told = max([1, *map(int, child.stdout)])
    state = store.read("child")
    # What it said was saved is; at most the round that it did not come to tell of is there, too.
    assert len(state.turns) in (told, told + 1)
    assert len(state.pictures) == len(state.turns)
    following = len(state.turns) + 1
    store.append("child", following, [round_of(following, None)])
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()
    assert store.info("parent").rounds == 3


@pytest.mark.parametrize(
    "statement", ["INSERT INTO pictures", "INSERT INTO rounds", "INSERT INTO uses", "COMMIT"]
)
def test_a_round_that_breaks_off_at_any_place_is_not_there(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    fill(store, "work", 1)
    real = sqlite3.connect

    class Breaking(sqlite3.Connection):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql.startswith(statement):
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *given)

        def executemany(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql.startswith(statement):
                raise sqlite3.OperationalError("database or disk is full")
            return super().executemany(sql, *given)

    def connect(*given: Any, **named: Any) -> sqlite3.Connection:
        return real(*given, factory=Breaking, **named)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        with pytest.raises(InputError, match="disk is full"):
            store.append("work", 2, [round_of(2, read_picture(scene()), shown=True)])
    assert (store.info("work").rounds, store.info("work").pictures) == (1, 0)
    fill(store, "other", 1, read_picture(scene()))


def test_an_answer_that_could_not_be_saved_is_saved_with_the_next(
    family: Model, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, _ = scripted(family, FIND, FIND, FIND)
    session = system.session(name="work", store=store)
    session.ask("Find them.", image=scene())

    def full(*_: Any) -> None:
        raise InputError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SessionStore, "append", full)
        with pytest.raises(InputError, match="full"):
            session.ask("Again.")
    assert (len(session.turns), store.info("work").rounds) == (2, 1)
    session.ask("And again.")
    assert [turn.round for turn in store.read("work").turns] == [1, 2, 3]


def test_a_file_of_something_else_or_of_another_version_is_refused(
    store: SessionStore, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE thesis (words TEXT)")
    db.close()
    text = tmp_path / "text.db"
    text.write_text("all of it, word by word, " * 100)
    for path, words in ((other, "a database of something else"), (text, "file is not a database")):
        before = path.read_bytes()
        for act in (SessionStore(path).list, lambda path=path: fill(SessionStore(path), "work", 1)):
            with pytest.raises(InputError, match=words):
                act()
        assert path.read_bytes() == before
    with pytest.raises(InputError, match="unable to open"):
        SessionStore(tmp_path).list()
    fill(store, "work", 1)
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(InputError, match="have version 2, this version of superlink reads 1"):
        store.read("work")


def test_what_is_damaged_or_missing_is_told_in_one_line(store: SessionStore) -> None:
    assert store.list() == ()
    assert "work" not in store
    assert not store.path.exists()  # looking makes no file
    for act in (store.read, store.info, store.delete):
        with pytest.raises(InputError, match="no session 'work' in"):
            act("work")
    fill(store, "work", 3, read_picture(scene()))

    def broken(sql: str, words: str) -> None:
        good = store.path.read_bytes()
        with sqlite3.connect(store.path) as db:
            db.execute(sql)
        db.close()
        with pytest.raises(InputError, match=words) as caught:
            store.read("work")
        assert "\n" not in str(caught.value)
        store.path.write_bytes(good)

    broken("DELETE FROM rounds WHERE round = 2", "damaged: round 2 is missing")
    broken("DELETE FROM pictures", "picture [0-9a-f]+ is missing")
    broken("UPDATE rounds SET data = '{}'", "damaged: KeyError")
    broken("UPDATE pictures SET data = x'00'", "not a picture|cannot|damaged")
    for name in ("", " ", "two\nlines", "x" * 201):
        with pytest.raises(InputError, match="a line of up to 200 characters"):
            fill(store, name, 1)
    fill(store, "Grüße an 'alle'; --", 1)
    with pytest.raises(InputError, match="there is a session 'work' already"):
        store.fork("Grüße an 'alle'; --", "work")
    with pytest.raises(InputError, match="has 3 rounds, it cannot be forked at 4"):
        store.fork("work", "new", at=4)


def test_an_exported_session_can_be_read_and_gone_on_with(
    family: Model, store: SessionStore, tmp_path: Path
) -> None:
    system, _ = scripted(family, FIND, EDIT, FIND)
    session = system.session(name="work", store=store)
    session.ask("Find them.", image=scene())
    session.ask("Make it green.")
    page = store.export("work", tmp_path / "out")
    text = page.read_text()
    assert "> Find them." in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (page.parent / line.split("(")[1].rstrip(")")).is_file()
    assert text.count("![") == 3  # two drawings and the picture that was made
    again = system.session(tmp_path / "out")
    assert [turn.text for turn in again.turns] == [turn.text for turn in session.turns]
    assert again.export(tmp_path / "out") == page


def test_the_place_of_a_session_asked_for_by_name_alone(
    family: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, _ = scripted(family, FIND)
    system.session(name="work").ask("Find them.", image=scene())
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["sessions.db"]
    monkeypatch.delenv("SUPERLINK_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert SessionStore().path == tmp_path / "data" / "superlink" / "sessions.db"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".local" / "share" / "superlink"
    with pytest.raises(InputError, match="not both"):
        system.session(tmp_path, name="work")
    with pytest.raises(InputError, match="pass name="):
        system.session(store=SessionStore(tmp_path / "x.db"))


def test_prompts_in_numbers_of_numpy_are_kept_like_others(
    family: Model, store: SessionStore, tmp_path: Path
) -> None:
    system, engine = scripted(family, FIND, CUT, CUT, CUT)
    session = system.session(name="work", store=store)
    boxes = session.ask("Find them.", image=scene()).boxes
    shares = np.zeros(scene().shape[:2], np.float32)
    shares[4:9, 5:12] = 0.5
    prompts: list[Any] = [
        Box(*np.asarray([1.5, 2, 30.25, 20], np.float32)),
        Point(np.int64(3), np.float32(4.5)),
        Scribble(tuple((x, y) for x, y in np.asarray([[1, 1], [9, 12]]))),
        Mask(shares),  # type: ignore[arg-type]
    ]
    meant: Any = (scene(seed=2), Point(np.float32(2.5), np.int64(3)))
    session.ask("Outline region1.", prompts=prompts, examples=[meant])
    session.ask("Once more.", refs=[boxes])
    session.save(tmp_path / "talk")
    for again in (system.session(name="work", store=store), system.session(tmp_path / "talk")):
        assert again.region_count == 5
        kept = [prompt for message in again._state.messages for prompt in message.prompts]
        assert kept[:4] == [Point(2.5, 3), Box(1.5, 2, 30.25, 20), Point(3, 4.5), Scribble(((1, 1), (9, 12)))]
        assert isinstance(kept[4], Mask)
        assert np.array_equal(kept[4].mask, shares > 0)
        assert all(map(same_messages, again._state.messages, session._state.messages))
    assert len(engine.requests) == 3


def test_messages_made_by_hand_are_kept_like_those_of_questions(store: SessionStore) -> None:
    given: Any = Point(np.float32(2.5), np.int64(3))
    asked = (Message(role="user", text="Find.", images=(scene(),), prompts=(given,)),)
    store.append("work", 1, [Round(asked=asked, turn=Turn(text="", raw="", round=1))])
    assert store.read("work").messages[0].prompts == (Point(2.5, 3),)
