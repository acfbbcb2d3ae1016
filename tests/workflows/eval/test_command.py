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
def test_eval_prints_a_table_of_every_part() -> None:
    result = CliRunner().invoke(app, ["eval", "shapes", "--count", "1"])
    assert result.exit_code == 0, result.output
    for words in ("routing", "AP50", "mIoU of matched", "P@0.5", "foreign pictures", "captions", "vqa"):
        assert words in result.stdout


@pytest.mark.usefixtures("untrained")
def test_parts_that_the_model_has_no_decoder_for_are_left_out_and_said_so() -> None:
    parts = ["--part", "keypoints", "--part", "vqa", "--part", "generation", "--part", "interactive"]
    result = CliRunner().invoke(app, ["eval", "shapes", "--count", "2", *parts, "--json"])
    assert result.exit_code == 0, result.output
    assert "keypoints is left out: 'test' has no decoder for [POSE]\n" in result.stderr
    assert "generation is left out: 'test' has no decoder for [GEN]\n" in result.stderr
    groups = {metric["group"] for metric in json.loads(result.stdout)["metrics"]}
    assert groups == {"vqa", "interactive"}


def test_an_unknown_part_is_bad_usage() -> None:
    result = CliRunner().invoke(app, ["eval", "shapes", "--part", "poetry"])
    assert result.exit_code == 2
    assert "poetry" in result.stderr
