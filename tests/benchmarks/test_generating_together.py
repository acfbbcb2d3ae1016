"""What is compared is the same work: replies together, alone, and after a first round."""

from __future__ import annotations

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


def test_only_the_second_round_finds_picture_question_and_answer_again(model: Model) -> None:
    service = RouterService(model.router, model.tokenizer)
    first, second = generating_together.rounds(service, model, 64)
    answered: list[int] = []
    for run in (first, second, first, second):
        before = service.status().prefix_positions
        assert run().wall > 0
        answered.append(service.status().prefix_positions - before)
    service.close()
    token = next(iter(model.router.config.routing_ids.values()))
    answer = generating_together.answer_ids(model, f"Here they are:<det> star</det>{token.text}.")
    config = model.router.config
    # All but the last id, which nothing was read after.
    repeated = config.tokens_per_tile + len(answer) - 1 + len(config.placeholders(token))
    assert [found >= repeated for found in answered] == [False, True, False, True]


def test_one_object_is_printed(tiny: Path, printed: Printed) -> None:
    arguments = ["--model", str(tiny), "--sessions", "2", "--tokens", "12", "--repeats", "1", "--side", "32"]
    generating_together.main(arguments)
    found = printed()
    assert found["speedup"] > 0
    assert found["round_speedup"] > 0
    assert found["sessions"] == 2
