"""`superlink ask` and `superlink chat` with every decoder: pictures made, keypoints, clicks, options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from tests.superlink.conftest import Run, save_scene

GEN = "Here is <det>a blue star</det>[GEN]."
EDIT = "Done: <det>make it green</det>[EDIT]."
FIND = "Here: <det>star</det>[DET]."
POSE = "A <det>person</det>[DET] with <det>nose</det>[POSE] and <det>left eye</det>[POSE]."
CUT = "This: <det>region1</det>[SEG]."


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_made_picture_is_written_and_its_path_and_size_are_told(
    run_family: Run, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("ask", str(picture), "Make it green.", "--json", "--out", str(out), "--seed", "3")
    result = run_family(*arguments, replies=[EDIT])
    assert result.exit_code == 0
    (line,) = lines_of(result)
    (artifact,) = line["artifacts"]
    assert list(artifact) == ["id", "type", "decoder", "path", "size"]
    assert artifact["path"] == str(out / "scene-picture-1.png")
    assert artifact["size"] == [40, 60]
    with Image.open(artifact["path"]) as made:
        assert made.size == (60, 40)
    assert sorted(path.name for path in out.iterdir()) == [
        "scene-drawn.png",
        "scene-picture-1.png",
        "scene-turn.json",
    ]
    assert json.loads((out / "scene-turn.json").read_text()) == line
    said = run_family(*arguments[:3], "--out", str(tmp_path / "more"), replies=[EDIT]).stdout
    assert "60 x 40 pixels\n" in said


def test_a_made_picture_that_is_not_written_is_said_to_be_lost(run_family: Run, picture: Path) -> None:
    asked = ("ask", str(picture), "Make it green.")
    assert "not kept: --out DIR writes it to a file" in run_family(*asked, replies=[EDIT]).stdout
    talked = run_family("chat", str(picture), typed="Make it green.\n", replies=[EDIT]).stdout
    assert "not kept: /save writes it to a file" in talked
    (line,) = lines_of(run_family(*asked, "--json", replies=[EDIT]))
    assert line["artifacts"][0]["path"] is None


def test_a_made_picture_does_not_replace_the_one_that_is_edited(run_family: Run, tmp_path: Path) -> None:
    first, second = save_scene(tmp_path / "scene-picture-1.png", 1), save_scene(tmp_path / "scene.png", 2)
    before = first.read_bytes()
    arguments = ("ask", str(first), str(second), "Make it green.", "--out", str(tmp_path))
    assert run_family(*arguments, replies=[EDIT]).exit_code == 0
    assert first.read_bytes() == before
    assert (tmp_path / "scene-2-picture-1.png").exists()


def test_options_are_for_the_decoders_that_take_them(run_family: Run, tmp_path: Path) -> None:
    options = ("--steps", "1", "--guidance", "2.5", "--size", "32x16")
    result = run_family("ask", "--no-image", "Paint a star.", "--json", *options, replies=[GEN])
    assert result.exit_code == 0
    (line,) = lines_of(result)
    assert line["image"] is None
    assert line["artifacts"][0]["size"] == [16, 32]
    assert line["artifacts"][0]["path"] is None
    out = tmp_path / "out"
    result = run_family("ask", "--no-image", "Paint a star.", "--out", str(out), replies=[GEN])
    assert [path.name for path in sorted(out.iterdir())] == ["turn-picture-1.png", "turn-turn.json"]
    assert "turn-picture-1.png" in result.stdout
    result = run_family("ask", "--no-image", "Paint.", "--json", "--size", "33x16", replies=[GEN])
    assert result.exit_code == 1
    assert "multiple of 2" in lines_of(result)[0]["failures"][0]["error"]


def test_an_option_that_no_decoder_takes_is_one_line(run: Run, picture: Path) -> None:
    result = run("ask", str(picture), "Find the star.", "--steps", "3")
    assert result.exit_code == 1
    assert result.stderr == (
        "superlink: error: no decoder of this model has the option 'steps'; there are no options\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("scene.png", "Paint.", "--size", "big"),
        ("scene.png", "Paint.", "--size", "10x"),
        ("scene.png", "Paint.", "--steps", "0"),
        ("scene.png", "Paint.", "--guidance", "-1"),
        ("scene.png", "Paint.", "--no-image"),
    ],
)
def test_bad_usage_exits_with_two(run_family: Run, arguments: tuple[str, ...]) -> None:
    result = run_family("ask", *arguments, replies=[])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_edit_without_a_picture_is_one_failure(run_family: Run) -> None:
    result = run_family("ask", "--no-image", "Make it green.", "--json", replies=[EDIT])
    assert result.exit_code == 1
    (failure,) = lines_of(result)[0]["failures"]
    assert failure["kind"] == "input"
    result = run_family("ask", "--no-image", "What is region1?", "--point", "3,4", replies=[])
    assert result.exit_code == 1
    assert "need a picture to lie on" in result.stderr


def test_keypoints_have_the_documented_keys(run_family: Run, picture: Path, tmp_path: Path) -> None:
    result = run_family(
        "ask", str(picture), "Noses?", "--json", "--out", str(tmp_path / "out"), replies=[POSE]
    )
    assert result.exit_code == 0
    (artifact,) = lines_of(result)[0]["artifacts"]
    assert list(artifact) == ["id", "type", "decoder", "labels", "scores", "names", "xyv", "xyxy"]
    assert (artifact["id"], artifact["type"], artifact["decoder"]) == ("keypoints-1", "keypoints", "unipose")
    assert artifact["names"] == ["nose", "left eye"]
    found = len(artifact["labels"])
    assert found > 0
    assert np.shape(artifact["xyv"]) == (found, 2, 3)
    with Image.open(tmp_path / "out" / "scene-drawn.png") as drawn:
        assert drawn.size[0] > 60


def test_three_rounds_on_one_picture_in_a_chat(run_family: Run, picture: Path, tmp_path: Path) -> None:
    talk, out = tmp_path / "talk", tmp_path / "out"
    script = (
        "Detect the star.\n/refs boxes-1\nSegment the one on the left.\n"
        f"/keep {talk}\nNow make it green.\n/save {out}\nFind the star.\n"
    )
    replies = [FIND, "It: <det>star</det>[SEG].", EDIT, FIND]
    result = run_family("chat", str(picture), "--json", "--seed", "5", typed=script, replies=replies)
    assert result.exit_code == 0
    rounds = lines_of(result)
    assert [line["artifacts"][0]["id"] for line in rounds] == ["boxes-1", "masks-1", "picture-1", "boxes-2"]
    assert [line["image"] for line in rounds] == [str(picture)] * 3 + ["picture-1"]
    assert "kept in" in result.stderr
    assert {path.name for path in out.iterdir()} == {
        "scene-3-drawn.png",
        "scene-3-picture-1.png",
        "scene-3-turn.json",
    }
    again = f"Now make it green.\n/save {tmp_path / 'again'}\n"
    resumed = run_family("chat", "--json", "--resume", str(talk), "--seed", "5", typed=again, replies=[EDIT])
    assert resumed.exit_code == 0
    made = [Image.open(folder / "scene-3-picture-1.png") for folder in (out, tmp_path / "again")]
    np.testing.assert_array_equal(*map(np.asarray, made))


def test_clicks_and_boxes_are_for_the_next_question(run_family: Run, picture: Path, tmp_path: Path) -> None:
    other = save_scene(tmp_path / "other.png", 3)
    script = (
        f"/point 3,4\n/box 9,9,30,30\nOutline region1.\nOnce more.\n/image {other}\n/point 5,5\nAnd here?\n"
    )
    replies = [CUT, CUT, CUT.replace("1", "3")]
    result = run_family("chat", str(picture), typed=script, replies=replies)
    assert result.exit_code == 0
    for name in ("region1", "region2", "region3"):
        assert f"the next question calls it {name}" in result.stdout


def test_a_command_that_cannot_be_done_is_one_line(run_family: Run, picture: Path, tmp_path: Path) -> None:
    lines = [
        "/point 3",
        "/box a,b,c,d",
        "/point 99,3",
        "/refs",
        "/refs boxes-7",
        "/keep",
        f"/keep {tmp_path}",
    ]
    result = run_family("chat", str(picture), typed="\n".join(lines) + "\n", replies=[])
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert [line.startswith("superlink: error: ") for line in errors] == [True] * len(lines)
    assert "no artifact 'boxes-7' in this session; there are none" in errors[4]
    (line,) = run_family("chat", typed="/point 3,4\n", replies=[]).stderr.splitlines()
    assert "needs a picture to lie on" in line
    result = run_family("chat", "--resume", str(tmp_path / "no"), typed="Hello.\n", replies=[])
    assert result.exit_code == 1
    assert "session.json" in result.stderr
