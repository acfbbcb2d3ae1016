"""The command line over the tiny model of the agents' tests."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from superlink import ask_command, chat_command
from superlink.agents.model_folder import Model
from superlink.cli import app
from tests.agents.tiny_family import build_family, scripted
from tests.agents.tiny_model import build_model, saying, scene

REPLY = "Here: <det>red circle</det>[DET], <det>star</det>[SEG]."
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model() -> Model:
    return build_model()


@pytest.fixture
def run(model: Model, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process; `tiny` always writes `REPLY`."""
    for module in (ask_command, chat_command):
        monkeypatch.setattr(module, "open_system", lambda *_, **__: saying(model, REPLY))

    def command(*arguments: str, typed: str | bytes = "") -> Result:
        return CliRunner().invoke(app, list(arguments), input=typed)

    return command


@pytest.fixture(scope="session")
def family() -> Model:
    return build_family()


@pytest.fixture
def run_family(family: Model, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process; `replies` are what the router writes, one after the other."""

    def command(*arguments: str, replies: Sequence[str], typed: str = "") -> Result:
        system, _ = scripted(family, *replies)
        for module in (ask_command, chat_command):
            monkeypatch.setattr(module, "open_system", lambda *_, **__: system)
        return CliRunner().invoke(app, list(arguments), input=typed)

    return command


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save_scene(tmp_path / "scene.png")


def save_scene(path: Path, seed: int = 0) -> Path:
    Image.fromarray(scene(seed=seed)).save(path)
    return path


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
