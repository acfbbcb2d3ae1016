"""The example of an agent runs as it stands, offline."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.agents.tiny_scene import TINY

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_with_tools.py"


def test_the_example_runs_and_shows_what_the_agent_did(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLE), run_name="example")["main"]
    main(str(TINY))
    out = capsys.readouterr().out
    assert "3 x red circle on picture-1" in out
    assert "masks-1: 1 x red circle on picture-1 (224 x 224 pixels)" in out
    assert "tool: segment\n  arguments:\n    refs:\n    - $step1" in out
    assert 'step1 = ground(phrase="largest triangle")' in out
    assert "masks-2: 1 x largest triangle" in out
