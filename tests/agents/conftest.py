"""One tiny model for all tests of the running system."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from superlink.agents.model_folder import Model
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
