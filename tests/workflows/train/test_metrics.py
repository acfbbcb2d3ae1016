"""What a run writes down about its losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from superlink.workflows.train.collective import Alone, Collective
from superlink.workflows.train.metrics import StepLog
from tests.workflows.train.two_threads import collectives, in_threads

NAMES = ("language", "kept_links", "counter/box", "counter/square")
CPU = torch.device("cpu")
Step = dict[str, float]


def logged(steps: list[Step], active: set[str], collective: Collective) -> dict[str, Any]:
    log = StepLog(NAMES)
    for losses in steps:
        terms = {name: torch.tensor(value) for name, value in losses.items()}
        log.add(terms, 1.0, samples=2, active=dict.fromkeys(active, 1.0))
    taken: dict[str, Any] = log.take(collective, CPU)["losses"]
    return taken


def test_a_term_that_a_decoder_lacked_in_a_step_is_averaged_over_the_others() -> None:
    steps: list[Step] = [
        {"total": 1.0, "language": 4.0, "counter/box": 3.0, "counter/square": 5.0},
        {"total": 1.0, "language": 2.0, "counter/box": 1.0},
    ]
    found = logged(steps, {"language", "counter"}, Alone())
    assert found == {"total": 1.0, "language": 3.0, "counter/box": 2.0, "counter/square": 5.0}


def test_a_step_counts_once_when_any_worker_had_the_term() -> None:
    """A mean over workers is the loss of the whole batch, so one that lacks a term adds nothing to it."""
    shares: list[list[Step]] = [
        [{"total": 1.0, "counter/square": 4.0}, {"total": 1.0}, {"total": 1.0, "counter/square": 2.0}],
        [{"total": 1.0, "counter/square": 2.0}, {"total": 1.0}, {"total": 1.0}],
    ]
    jobs = [
        partial(logged, steps, {"counter"}, collective)
        for steps, collective in zip(shares, collectives(), strict=True)
    ]
    # Steps of (4 + 2) / 2 and 2 / 2; nobody had the term in the second.
    assert in_threads(jobs) == [{"total": pytest.approx(1.0), "counter/square": pytest.approx(2.0)}] * 2


def test_links_that_are_compared_now_and_then_are_averaged_over_all_steps() -> None:
    """They weigh as much more in the steps that compare them."""
    found = logged([{"total": 1.0, "kept_links": 4.0}, *([{"total": 1.0}] * 3)], {"kept_links"}, Alone())
    assert found["kept_links"] == pytest.approx(1.0)


def test_a_log_of_no_steps_has_no_losses() -> None:
    assert logged([], set(), Alone()) == {}
