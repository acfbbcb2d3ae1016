"""`--engine` and `--address`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from superlink import ask_command, chat_command
from superlink.agents.model_folder import Model
from superlink.agents.ray.engine import RayEngine
from superlink.cli import app
from tests.agents.tiny_model import saying


def test_an_address_without_ray_is_one_line(picture: Path) -> None:
    for command in (["ask", str(picture), "Find."], ["chat", str(picture)]):
        result = CliRunner().invoke(app, [*command, "--address", "10.0.0.1:6379"])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line == "superlink: error: --address is that of a Ray cluster; --engine local has none"


@pytest.mark.parametrize(
    ("said", "engine"),
    [
        ([], "local"),
        (["--engine", "ray"], "ray"),
        (["--engine", "ray", "--address", "a:1"], RayEngine(address="a:1")),
    ],
)
def test_the_chosen_engine_is_opened_and_closed(
    model: Model, monkeypatch: pytest.MonkeyPatch, picture: Path, said: list[str], engine: object
) -> None:
    opened, closed = [], []

    def open_system(_: str, chosen: object, **__: object) -> object:
        opened.append(chosen)
        system = saying(model, "Nothing.")
        monkeypatch.setattr(system.engine, "close", lambda: closed.append(chosen))
        return system

    for module in (ask_command, chat_command):
        monkeypatch.setattr(module, "open_system", open_system)
    CliRunner().invoke(app, ["ask", str(picture), "Find.", *said], catch_exceptions=False)
    CliRunner().invoke(app, ["chat", str(picture), *said], input="Find.\n", catch_exceptions=False)
    assert opened == closed == [engine, engine]
