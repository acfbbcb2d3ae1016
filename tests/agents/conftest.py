"""One tiny model for all tests of the running system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from superlink.agents.model_folder import Model
from superlink.agents.session_store import SessionStore
from superlink.agents.system import System
from tests.agents.tiny_family import build_family
from tests.agents.tiny_model import build_model, saying


@pytest.fixture(scope="session")
def model() -> Model:
    return build_model()


@pytest.fixture
def system(model: Model) -> Iterator[System]:
    """Always finds two things and outlines one."""
    text = "Here: <det>red circle</det>[DET], <det>heart</det>[DET], <det>star</det>[SEG]."
    with saying(model, text) as system:
        yield system


@pytest.fixture(scope="session")
def family() -> Model:
    return build_family()


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of this test stay out of the user's folder."""
    monkeypatch.setenv("SUPERLINK_HOME", str(tmp_path / "home"))


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "talks.db")
