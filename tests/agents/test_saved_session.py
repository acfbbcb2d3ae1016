"""Sessions on disk: what comes back is what was saved, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from superlink.agents import turn as turn_module
from superlink.agents.model_folder import Model
from superlink.agents.session import Session
from superlink.decoders.artifacts import equal
from superlink.router.errors import InputError
from superlink.router.messages import Box, Mask, Message, Point, Scribble
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import scene

FIND = "Here: <det>star</det>[DET], <det>person</det>[DET]."
POSE = "See: <det>person</det>[DET] with <det>nose</det>[POSE]."
CUT = "This: <det>region1</det>[SEG]."
EDIT = "Done: <det>make it green</det>[EDIT]."


def talked(family: Model) -> Session:
    """A session with every kind of artifact and of prompt, and a failure."""
    system, _ = scripted(family, FIND, POSE, CUT, EDIT, "Odd: <det>tail</det>[POSE].")
    session = system.session()
    session.ask("Find them.", image=scene())
    session.ask("And the nose?")
    prompts = [Point(3, 4), Box(1.5, 2, 30, 20), Scribble(((1, 1), (9, 9.25))), Mask(scene()[..., 0] > 99)]
    meant = [(scene(20, 30, seed=2), np.ones((20, 30), np.bool_))]
    session.ask("Outline region1.", prompts=prompts, examples=meant)
    session.ask("Make it green.")
    session.ask("The tail?")
    return session


def same_messages(one: Message, other: Message) -> bool:
    masks = [[p.mask for p in m.prompts if isinstance(p, Mask)] for m in (one, other)]
    plain = [[p for p in m.prompts if not isinstance(p, Mask)] for m in (one, other)]
    return (
        (one.role, one.text, plain[0]) == (other.role, other.text, plain[1])
        and all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))
        and all(np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True))
    )


def test_a_session_comes_back_as_it_was(family: Model, tmp_path: Path) -> None:
    session = talked(family)
    session.save(tmp_path / "talk")
    system, engine = scripted(family, FIND)
    loaded = system.session(tmp_path / "talk")
    assert [turn.to_json() for turn in loaded.turns] == [turn.to_json() for turn in session.turns]
    for turn, other in zip(loaded.turns, session.turns, strict=True):
        assert (turn.raw, turn.round, turn.timings) == (other.raw, other.round, other.timings)
        for one, two in zip(turn.artifacts, other.artifacts, strict=True):
            assert equal(one, two)
    assert session.picture is not None
    assert loaded.picture is not None
    assert (loaded.picture.id, loaded.picture.name) == (session.picture.id, "picture-1")
    assert loaded.region_count == session.region_count == 5
    loaded.ask("Find them again.")
    before = engine.requests[-1].conversation
    assert all(map(same_messages, before, session._state.messages))
    assert len(before) == len(session._state.messages) + 1


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_three_rounds_give_the_same_wherever_the_session_was_reloaded(
    family: Model, tmp_path: Path, kept: int
) -> None:
    replies = [FIND, "The one: <det>star</det>[SEG].", EDIT]

    def ask(session: Session, number: int) -> None:
        if number == 0:
            session.ask("Detect the star.", image=scene(seed=3))
        elif number == 1:
            left = session.artifact("boxes-1")
            session.ask("Segment the one on the left.", refs=[left])
        else:
            session.ask("Make it green.", seed=4)

    system, _ = scripted(family, *replies)
    straight = system.session()
    for number in range(3):
        ask(straight, number)
    system, _ = scripted(family, *replies)
    session = system.session()
    for number in range(3):
        ask(session, number)
        if number == kept:
            session.save(tmp_path)
            session = system.session(tmp_path)
    pairs = zip(straight.turns, session.turns, strict=True)
    for one, other in pairs:
        assert one.failures == other.failures == ()
        for first, second in zip(one.artifacts, other.artifacts, strict=True):
            assert equal(first, second)
    assert [type(turn.artifacts[0]).__name__ for turn in session.turns] == ["Boxes", "Masks", "Picture"]


def test_saving_again_replaces_the_earlier_state_whole_or_not_at_all(
    family: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, _ = scripted(family, FIND, FIND, FIND)
    session = system.session()
    session.ask("Find them.", image=scene())
    session.save(tmp_path)
    session.ask("Find them.", image=scene(seed=1))
    write = turn_module.Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(turn_module.Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left"):
            session.save(tmp_path)
    assert len(system.session(tmp_path).turns) == 1
    session.save(tmp_path)
    assert len(system.session(tmp_path).turns) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "session.json"]


def test_a_folder_of_other_things_is_left_alone(family: Model, tmp_path: Path) -> None:
    system, _ = scripted(family)
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="not a session's folder; name a new one"):
        system.session().save(tmp_path)
    with pytest.raises(InputError, match="not a session's folder; name a new one"):
        system.session().save(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match=r"it has no session\.json"):
        system.session(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_folder_is_one_line(family: Model, tmp_path: Path) -> None:
    system, _ = scripted(family, FIND)
    session = system.session()
    session.ask("Find them.", image=scene())
    session.save(tmp_path)
    path = tmp_path / "session.json"
    good = path.read_text()
    data = json.loads(good)

    def broken(text: str, words: str) -> None:
        path.write_text(text)
        with pytest.raises(InputError, match=words) as caught:
            system.session(tmp_path)
        assert "\n" not in str(caught.value)

    broken(good[:50], "damaged")
    broken("[]", "damaged")
    broken(json.dumps(data | {"format": 2}), "has format 2, this version reads 1")
    broken(json.dumps({key: value for key, value in data.items() if key != "turns"}), "damaged: KeyError")
    broken(json.dumps(data | {"turns": [3]}), "damaged: TypeError")
    path.write_text(good)
    (picture,) = (tmp_path / "pictures").iterdir()
    Image.fromarray(scene(seed=7)).save(picture)
    with pytest.raises(InputError, match="is not the one that was saved"):
        system.session(tmp_path)
    picture.unlink()
    with pytest.raises(InputError, match="does not exist"):
        system.session(tmp_path)


@pytest.mark.parametrize(
    "foreign", ['{"mine": "login cookies"}', '{"format": 1}', '["format", "turns"]', "", "not JSON", "\xff"]
)
def test_a_folder_with_a_session_file_of_another_program_is_left_alone(
    family: Model, tmp_path: Path, foreign: str
) -> None:
    system, _ = scripted(family, FIND)
    session = system.session()
    session.ask("Find them.", image=scene())
    (tmp_path / "session.json").write_bytes(foreign.encode("latin-1"))
    (tmp_path / "main.c").write_text("int main;")
    for write in (session.save, session.export):
        with pytest.raises(InputError, match="not a session's folder; name a new one"):
            write(tmp_path)
    assert (tmp_path / "session.json").read_bytes() == foreign.encode("latin-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.c", "session.json"]
