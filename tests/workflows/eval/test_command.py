from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superlink.agents import system as system_module
from superlink.agents.local import LocalEngine
from superlink.agents.system import System
from superlink.cli import app
from tests.agents.tiny_model import build_model


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


def test_an_unknown_part_is_bad_usage() -> None:
    result = CliRunner().invoke(app, ["eval", "shapes", "--part", "poetry"])
    assert result.exit_code == 2
    assert "poetry" in result.stderr
