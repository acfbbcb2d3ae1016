"""The embedded model by its folder, and what a benchmark prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SURROUNDINGS = {"cores", "load", "machine", "python", "versions", "commit"}
Printed = Callable[[], dict[str, Any]]


@pytest.fixture(scope="session")
def tiny() -> Path:
    return Path(__file__).parents[2] / "superlink" / "weights" / "tiny"


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """The one JSON object that was printed since the last call."""

    def read() -> dict[str, Any]:
        (line,) = capsys.readouterr().out.splitlines()
        found: dict[str, Any] = json.loads(line)
        assert found.keys() >= SURROUNDINGS
        assert {"torch", "transformers"} <= found["versions"].keys()
        return found

    return read
