"""What is compared is the same work: replies together, alone, and after a first round."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import generating_together
from superlink.agents.model_folder import Model, load_model
from superlink.agents.router_service import RouterService
from superlink.router.generation import generate
from tests.benchmarks.conftest import Printed


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    return load_model(tiny)


def test_replies_written_together_are_those_written_alone(model: Model) -> None:
    asked = generating_together.requests(model, 3, 12)
    service = RouterService(model.router, model.tokenizer, prefix_bytes=0)
    found = generating_together.together(service, asked)
    assert service.status().prefix_hits == 0
    service.close()
    for one, reply in zip(asked, found, strict=True):
        (alone,) = generate(model.router, model.tokenizer, [one])
        assert reply.token_ids == alone.token_ids
        assert len(reply.links) == 2


def test_only_the_second_round_finds_its_picture_again(model: Model) -> None:
    service = RouterService(model.router, model.tokenizer)
    first, second = generating_together.rounds(service, model, 12, 64)
    known = [0]
    for run in (first, second, first, second):
        assert run().wall > 0
        known.append(service.status().prefix_positions)
    service.close()
    reused = [after - before >= model.router.config.tokens_per_tile for before, after in pairwise(known)]
    assert reused == [False, True, False, True]


def test_one_object_is_printed(tiny: Path, printed: Printed) -> None:
    arguments = ["--model", str(tiny), "--sessions", "2", "--tokens", "12", "--repeats", "1", "--side", "32"]
    generating_together.main(arguments)
    found = printed()
    assert found["speedup"] > 0
    assert found["round_speedup"] > 0
    assert found["sessions"] == 2
