"""Every test begins with an empty list of calls."""

from __future__ import annotations

import pytest

from tests.workflows.graph import toys


@pytest.fixture
def calls() -> list[str]:
    toys.CALLS.clear()
    return toys.CALLS
