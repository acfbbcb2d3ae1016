"""Turns as JSON, as drawings and as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from superlink.agents import turn as turn_module
from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model
from superlink.agents.pictures import read_picture
from superlink.agents.system import System
from superlink.agents.turn import Turn
from superlink.ask_command import describe
from superlink.decoders.artifacts import Origin, Picture
from superlink.decoders.contract import Failure
from superlink.decoders.files import write_whole
from superlink.router.errors import InputError
from tests.agents.tiny_model import scene


def test_json_has_exactly_the_documented_keys(system: System, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(scene()).save(path)
    turn = system.ask("Find them.", image=str(path))
    data = json.loads(json.dumps(turn.to_json()))
    assert list(data) == ["image", "text", "failures", "artifacts", "timings"]
    assert data["image"] == str(path)
    boxes, masks = data["artifacts"]
    assert list(boxes) == ["id", "type", "decoder", "labels", "scores", "xyxy"]
    assert list(masks) == ["id", "type", "decoder", "labels", "scores", "rle"]
    assert (boxes["id"], boxes["type"], boxes["decoder"]) == ("boxes-1", "boxes", "grounding_dino")
    assert len(boxes["labels"]) == len(boxes["scores"]) == len(boxes["xyxy"]) > 0
    assert boxes["scores"] == sorted(boxes["scores"], reverse=True)
    assert set(boxes["labels"]) <= {"red circle", "heart"}
    for rle, mask in zip(masks["rle"], turn.masks.masks, strict=True):
        assert rle["size"] == [40, 60]
        np.testing.assert_array_equal(coco_mask.decode(rle).astype(bool), mask)


def test_failures_and_errors_are_plain_data() -> None:
    failure = Failure(call_id="sam.0", error="no", kind="decoder")
    turn = Turn(text="", raw="", failures=(failure,), timings={"router": 0.123456})
    assert turn.to_json() == {
        "image": None,
        "text": "",
        "failures": [{"call_id": "sam.0", "error": "no", "kind": "decoder"}],
        "artifacts": [],
        "timings": {"router": 0.1235},
    }
    assert Turn(text="", raw="", error="why").to_json()["error"] == "why"


def painted() -> Turn:
    picture = Picture(pixels=scene(12, 16), origin=Origin(id="picture-1", decoder="painter"))
    return Turn(text="Done.", raw="Done.[GEN]", artifacts=(picture,), image=read_picture(scene()))


def test_save_writes_the_drawing_the_json_and_made_pictures(tmp_path: Path) -> None:
    turn = painted()
    written = turn.save(tmp_path / "new" / "folder", stem="scene")
    assert {name: path.name for name, path in written.items()} == {
        "picture-1": "scene-picture-1.png",
        "drawn": "scene-drawn.png",
        "json": "scene-turn.json",
    }
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        path.name for path in written.values()
    )
    np.testing.assert_array_equal(np.asarray(Image.open(written["picture-1"])), scene(12, 16))
    (artifact,) = json.loads(written["json"].read_text())["artifacts"]
    assert artifact["path"] == str(written["picture-1"])
    assert artifact["size"] == [12, 16]


def test_the_drawing_shows_what_was_found(system: System) -> None:
    turn = system.ask("Find them.", image=scene(200, 300))
    drawn, plain = turn.draw().pixels, painted().draw().pixels
    assert drawn.ndim == 3
    assert drawn.dtype == np.uint8
    assert plain.shape[2] == 3
    with pytest.raises(InputError, match="no picture"):
        Turn(text="", raw="").draw()


def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        painted().save(tmp_path / "file" / "below")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(turn_module.Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        write_whole(tmp_path / "out.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_reply_that_was_cut_off_says_so(model: Model) -> None:
    with System(LocalEngine(model)) as system:
        (cut,) = system.ask("Find them.", image=[scene()], max_new_tokens=2)
    assert (cut.cut, cut.to_json()["cut"]) == (True, True)
    assert "--max-new-tokens" in " ".join(describe(cut))


def test_a_whole_reply_does_not_say_that_it_was_cut_off(system: System) -> None:
    whole = system.ask("Find them.", image=scene())
    assert (whole.cut, "cut" in whole.to_json()) == (False, False)
    assert "--max-new-tokens" not in " ".join(describe(whole))
