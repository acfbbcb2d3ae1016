"""The example of an edit over several rounds, on decoders with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import multi_round_edit
from superlink.agents.model_folder import Model, save_model
from superlink.decoders.artifacts import Boxes
from tests.agents.tiny_family import build_family, scripted
from tests.agents.tiny_model import scene
from tests.workflows.train.small_start import start_folder

FIND = "Here: <det>star</det>[DET]."
SEGMENT = "Here: <det>star</det>[SEG]."
EDIT = "Done: <det>make it green</det>[EDIT]."


@pytest.fixture(scope="module")
def family() -> Model:
    return build_family()


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.fromarray(scene()).save(tmp_path / "scene.png")
    return str(tmp_path / "scene.png")


def test_rounds_build_on_each_other_and_on_the_saved_session(
    family: Model, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system, engine = scripted(family, FIND, SEGMENT, EDIT, FIND, EDIT)
    session = multi_round_edit.run(system, picture, tmp_path / "out")
    first, outlined, changed, seen, again = session.turns
    (ref,) = next(call.inputs for _, call in engine.calls if call.token.text == "[SEG]")
    assert isinstance(ref, Boxes)
    assert ref.xyxy[0, 0] == first.boxes.xyxy[:, 0].min()
    assert changed.picture is not None
    saved = np.asarray(Image.open(tmp_path / "out/changed.png"))
    np.testing.assert_array_equal(saved, changed.picture.pixels)
    assert seen.image is not None
    np.testing.assert_array_equal(seen.image.pixels, changed.picture.pixels)
    assert again.image is not None
    np.testing.assert_array_equal(again.image.pixels, scene())
    assert (tmp_path / "out/again.png").is_file()
    said = capsys.readouterr().out
    assert [line[:2] for line in said.splitlines() if line[0].isdigit()] == ["1.", "2.", "3.", "4.", "5."]
    assert len(outlined.masks) >= 1


def test_whatever_a_model_replies_the_example_comes_to_its_end(
    family: Model, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system, _ = scripted(family, "No idea.", "Still none.")
    session = multi_round_edit.run(system, picture, tmp_path / "out")
    assert len(session.turns) == 2
    assert "There is no changed picture" in capsys.readouterr().out


def test_it_runs_on_a_model_folder_that_has_an_editor(family: Model, picture: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", family)
    multi_round_edit.main(str(tmp_path / "model"), picture, str(tmp_path / "out"))
    assert (tmp_path / "out/talk/session.json").is_file()


def test_the_embedded_model_finds_outlines_and_changes_the_star_of_the_picture(tmp_path: Path) -> None:
    multi_round_edit.main("tiny", out=str(tmp_path / "out"))
    with Image.open(tmp_path / "out/changed.png") as changed, Image.open(multi_round_edit.SCENE) as scene_:
        assert changed.size == scene_.size
    assert (tmp_path / "out/talk/session.json").is_file()


def test_a_model_without_an_editor_is_told_so(tmp_path: Path) -> None:
    start = start_folder(tmp_path / "start")
    with pytest.raises(SystemExit, match=r"start' has no editor: none of its decoders answers \[EDIT\]"):
        multi_round_edit.main(str(start))
