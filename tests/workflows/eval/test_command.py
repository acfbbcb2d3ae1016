from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superlink.agents import system as system_module
from superlink.agents.local import LocalEngine
from superlink.agents.system import System
from superlink.cli import app
from superlink.workflows.eval import shapes, tasks
from tests.agents.tiny_model import build_model
from tests.workflows.eval.own_files import scenes, write_coco, write_keypoints, write_refcoco


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        system_module, "load", lambda *_, **__: System(LocalEngine(build_model()), name="test")
    )


@pytest.mark.usefixtures("untrained")
def test_eval_prints_one_json_object_and_writes_it_too(tmp_path: Path) -> None:
    parts = ["--part", "boxes", "--part", "masks", "--part", "foreign"]
    out = tmp_path / "report.json"
    result = CliRunner().invoke(app, ["eval", "shapes", "--count", "2", *parts, "--json", "--out", str(out)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads(out.read_text())
    assert report["model"] == "test"
    assert {metric["group"] for metric in report["metrics"]} == {"boxes", "masks", "foreign pictures"}
    assert all(0 <= metric["value"] <= 1 for metric in report["metrics"])


@pytest.mark.usefixtures("untrained")
def test_eval_prints_a_table_of_every_part_that_the_model_has_decoders_for() -> None:
    result = CliRunner().invoke(app, ["eval", "shapes", "--count", "1"])
    assert result.exit_code == 0, result.output
    for words in ("routing", "AP50", "mIoU of matched", "P@0.5", "foreign pictures", "interactive"):
        assert words in result.stdout
    assert not any(words in result.stdout for words in ("keypoints", "edits", "captions", "vqa"))
    assert result.stderr.rstrip() == (
        "left out for 'test': foreign-people (no decoder for [POSE]), keypoints (no decoder for [POSE]), "
        "generation (no decoder for [GEN]), edits (no decoder for [EDIT]), vqa (only with --part vqa), "
        "captions (only with --part captions)"
    )


@pytest.mark.usefixtures("untrained")
def test_parts_that_are_asked_for_are_measured_unless_there_is_no_decoder_for_them() -> None:
    parts = ["--part", "keypoints", "--part", "vqa", "--part", "generation", "--part", "interactive"]
    result = CliRunner().invoke(app, ["eval", "shapes", "--count", "2", *parts, "--json"])
    assert result.exit_code == 0, result.output
    assert result.stderr.rstrip() == (
        "left out for 'test': keypoints (no decoder for [POSE]), generation (no decoder for [GEN])"
    )
    groups = {metric["group"] for metric in json.loads(result.stdout)["metrics"]}
    assert groups == {"vqa", "interactive"}


@pytest.mark.usefixtures("untrained")
def test_answers_in_words_are_measured_by_default_where_the_model_writes_every_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "ROUTING_TEXTS", ("[DET]", "[GRD]", "[SEG]"))  # all that this model writes
    monkeypatch.setattr(shapes, "PARTS", ("boxes", "vqa", "captions"))
    result = CliRunner().invoke(app, ["eval", "shapes", "--count", "2", "--json"])
    assert result.exit_code == 0, result.output
    groups = {metric["group"] for metric in json.loads(result.stdout)["metrics"]}
    assert (groups, result.stderr) == ({"boxes", "vqa", "captions"}, "")


@pytest.mark.usefixtures("untrained")
def test_own_data_gives_the_same_table_and_json(tmp_path: Path) -> None:
    out, path = tmp_path / "report.json", write_coco(tmp_path, scenes(3))
    options = ["--data", str(path), "--count", "2", "--threshold", "0.1", "--json", "--out", str(out)]
    result = CliRunner().invoke(app, ["eval", "coco", *options])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads(out.read_text())
    assert (report["task"], report["model"], report["data"]) == ("coco", "test", str(path))
    assert {metric["group"] for metric in report["metrics"]} == {"boxes", "masks"}
    assert result.stderr == ""
    path = write_refcoco(tmp_path, scenes(2))
    result = CliRunner().invoke(app, ["eval", "refcoco", "--data", str(path)])
    assert result.exit_code == 0, result.output
    assert "P@0.5" in result.stdout


@pytest.mark.usefixtures("untrained")
def test_what_was_left_out_of_own_data_is_said_beside_the_numbers(tmp_path: Path) -> None:
    path = write_coco(tmp_path, scenes(9))
    for index in range(1, 8):
        (tmp_path / f"{index}.png").unlink()
    options = ["--data", str(path), "--images", str(tmp_path), "--skip-bad", "--json"]
    result = CliRunner().invoke(app, ["eval", "coco", *options])
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 6
    assert all("there is no picture" in line for line in lines[:5])
    assert lines[5] == "left out: 2 more"


@pytest.mark.usefixtures("untrained")
def test_bad_own_data_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    path = write_coco(tmp_path, scenes(2))
    for options, said in (
        (["coco", "--data", str(tmp_path / "gone.json")], "there is no data at"),
        (["coco", "--data", str(path), "--images", str(tmp_path / "gone")], "there is no folder"),
        (["refcoco", "--data", str(path)], "needs 'expressions' of its images"),
        (["keypoints", "--data", str(path)], "needs categories with a list 'keypoints'"),
    ):
        result = CliRunner().invoke(app, ["eval", *options])
        assert result.exit_code == 1
        assert result.stderr.startswith("superlink: error: ")
        assert result.stderr.count("\n") == 1
        assert said in result.stderr
    people = write_keypoints(tmp_path, scenes(1, shapes=("person",)))
    result = CliRunner().invoke(app, ["eval", "keypoints", "--data", str(people)])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert (
        "coco-keypoints needs a decoder for [POSE]; this model answers [DET], [GRD], [SEG]" in result.stderr
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["coco"], "--data"),
        (["coco", "--data", "x.json", "--instruction", "find it"], "{classes}"),
        (["coco", "--data", "x.json", "--outline", "cut it out"], "{classes}"),
        (["refcoco", "--data", "x.json", "--instruction", "find it"], "{phrase}"),
        (["keypoints", "--data", "x.json", "--instruction", "all {keypoints}"], "{classes}"),
        (["coco", "--data", "x.json", "--threshold", "2"], "--threshold"),
        (["poetry"], "poetry"),
    ],
)
def test_a_wrong_call_is_bad_usage(options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["eval", *options])
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_unknown_part_is_bad_usage() -> None:
    result = CliRunner().invoke(app, ["eval", "shapes", "--part", "poetry"])
    assert result.exit_code == 2
    assert "poetry" in result.stderr
