"""The command line as a user starts it: in a process of its own, on a model folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superlink.agents.model_folder import Model, save_model
from superlink.cli import app
from tests.superlink.conftest import save_scene


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, model)
    return folder


REPORT = "atexit.register(lambda: sys.stderr.write(' '.join(sorted(sys.modules))))"


def superlink(*arguments: str) -> subprocess.CompletedProcess[str]:
    return in_process([sys.executable, "-m", "superlink", *arguments])


def in_process(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_ask_prints_json_alone_and_loads_no_more_than_it_needs(folder: Path, tmp_path: Path) -> None:
    names = [str(save_scene(tmp_path / "scene.png")), str(tmp_path / "missing.png")]
    code = f"import atexit, sys; {REPORT}; from superlink.cli import main; main()"
    arguments = ["ask", *names, "Find.", "--model", str(folder), "--json", "--max-new-tokens", "8"]
    result = in_process([sys.executable, "-c", code, *arguments])
    good, bad = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 1
    assert (good["image"], good["failures"]) == (names[0], [])
    assert "does not exist" in bad["error"]
    (modules,) = result.stderr.splitlines()
    assert "superlink.agents.local" in modules.split()
    assert not {"ray", "supervision", "matplotlib", "diffusers", "peft", "cv2"} & set(modules.split())


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    result = superlink("ask", str(save_scene(tmp_path / "scene.png")), "Find.", "--model", "huge")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: unknown model 'huge'")


def test_version_and_bad_usage() -> None:
    assert superlink("--version").stdout.startswith("superlink ")
    assert superlink("ask").returncode == 2
    assert superlink("fly").returncode == 2


def test_a_model_that_does_not_fit_is_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "router" / "model.safetensors").rename(tmp_path / "model.safetensors")
    picture = str(save_scene(tmp_path / "scene.png"))
    result = CliRunner().invoke(app, ["ask", picture, "Find.", "--model", str(folder), "--json"])
    (tmp_path / "model.safetensors").rename(folder / "router" / "model.safetensors")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: ")
    assert "model.safetensors" in line


@pytest.mark.parametrize("command", ["train", "eval"])
def test_mounted_commands_explain_themselves_and_fail_in_one_line(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"superlink {command}" in shown.stdout
    assert CliRunner().invoke(app, [command, "--nonsense"]).exit_code == 2


def test_an_unknown_recipe_is_one_line() -> None:
    result = CliRunner().invoke(app, ["train", "nothing-of-that-kind"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: ")
