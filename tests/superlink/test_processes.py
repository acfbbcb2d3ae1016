"""The command line as a user starts it: in a process of its own, on a model folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from superlink.agents.model_folder import Model, save_model
from tests.superlink.conftest import save_scene


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, model)
    return folder


def superlink(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superlink", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=200, check=False)


def test_ask_prints_json_alone(folder: Path, tmp_path: Path) -> None:
    names = [str(save_scene(tmp_path / "scene.png")), str(tmp_path / "missing.png")]
    result = superlink("ask", *names, "Find.", "--model", str(folder), "--json", "--max-new-tokens", "8")
    good, bad = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 1
    assert result.stderr == ""
    assert (good["image"], good["failures"]) == (names[0], [])
    assert "does not exist" in bad["error"]


def test_a_model_that_does_not_fit_is_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "router" / "model.safetensors").rename(tmp_path / "model.safetensors")
    picture = str(save_scene(tmp_path / "scene.png"))
    result = superlink("ask", picture, "Find.", "--model", str(folder), "--json")
    (tmp_path / "model.safetensors").rename(folder / "router" / "model.safetensors")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: ")
    assert "model.safetensors" in line


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    result = superlink("ask", str(save_scene(tmp_path / "scene.png")), "Find.", "--model", "huge")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: unknown model 'huge'")


def test_version_and_bad_usage() -> None:
    assert superlink("--version").stdout.startswith("superlink ")
    assert superlink("ask").returncode == 2
    assert superlink("fly").returncode == 2
