"""The benchmark of workflows measures what it says."""

from __future__ import annotations

import json

import pytest

from benchmarks import workflow_overhead


def test_it_prints_one_object_with_all_chains_and_the_fan_out(capsys: pytest.CaptureFixture[str]) -> None:
    workflow_overhead.main(["--runs", "3"])
    report = json.loads(capsys.readouterr().out)
    assert {"workflow", "runnable_sequence"} <= set(report["chain"])
    for times in report["chain"].values():
        assert 0 < times["best_us"] <= times["median_us"]
    assert ("langgraph" in report["chain"]) == (report["langgraph"] == "measured")
    assert report["fan_out"]["follow_ups_best_ms"] > 0
    assert "langchain-core" in report["versions"]


def test_all_chains_do_the_same() -> None:
    assert workflow_overhead.workflow_chain()(3) == {"value": 3}
    assert workflow_overhead.sequence_chain()(3) == 3
