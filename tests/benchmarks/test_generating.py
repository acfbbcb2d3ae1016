"""Both benchmarks of the router alone: what they time is what a teacher-forced pass computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import generation, queries
from superlink.agents.model_folder import Model, load_model
from superlink.router.batch import RouterOutput
from superlink.router.encoding import encode
from superlink.router.generation import Request, StepStates
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from tests.benchmarks.conftest import Printed

QUERIES = 64


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    return load_model(tiny)


def teacher_forced(
    router: Router, tokenizer: RouterTokenizer, asked: Request, ids: Sequence[int]
) -> tuple[RouterOutput, int]:
    """One pass over a prompt and what was written after it, and how long the prompt is."""
    prompt = encode(asked.conversation, tokenizer, router.config, training=False)
    row = prompt.input_ids[0].tolist() + router.expand(ids)
    batch = replace(
        prompt, input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.bool)
    )
    with torch.no_grad():
        return router(batch), prompt.input_ids.shape[1]


def test_queries_of_one_step_are_the_links_of_a_teacher_forced_pass(model: Model) -> None:
    router, token = queries.with_queries(model.router, QUERIES)
    asked = queries.requests(queries.routed(router, token), 2)
    steps: list[StepStates] = []
    replies, seconds = queries.write(router, model.tokenizer, asked, observe=steps.append)
    assert seconds.wall > 0
    assert [step.widths for step in steps[1:]] == [(1 + QUERIES, 1 + QUERIES)]
    for one, reply in zip(asked, replies, strict=True):
        (link,) = reply.links
        expected, _ = teacher_forced(router, model.tokenizer, one, reply.token_ids)
        assert link.embeddings.shape == (QUERIES, router.config.width)
        torch.testing.assert_close(link.embeddings, expected.links[0][0].embeddings, atol=1e-5, rtol=0)


def test_words_one_by_one_have_the_states_and_the_link_of_a_teacher_forced_pass(model: Model) -> None:
    router, token = queries.with_queries(model.router, QUERIES)
    words = queries.spoken(model.tokenizer, QUERIES)
    (alone,) = queries.requests(words, 1)
    steps: list[StepStates] = []
    (reply,), _ = queries.write(router, model.tokenizer, [alone], observe=steps.append)
    assert reply.token_ids == tuple(words)
    assert [step.widths for step in steps[1:]] == [(1,)] * QUERIES
    expected, start = teacher_forced(router, model.tokenizer, alone, words)
    states = torch.cat([step.hidden[0] for step in steps[1:]])
    torch.testing.assert_close(states, expected.hidden[0, start : start + QUERIES], atol=1e-5, rtol=0)
    (both,) = queries.requests([*words, *queries.routed(router, token)], 1)
    (reply,), _ = queries.write(router, model.tokenizer, [both])
    expected, _ = teacher_forced(router, model.tokenizer, both, reply.token_ids)
    torch.testing.assert_close(reply.links[0].embeddings, expected.links[0][0].embeddings, atol=1e-5, rtol=0)


def test_a_router_without_such_a_route_gets_one_and_keeps_its_weights(model: Model) -> None:
    own, token = queries.with_queries(model.router, model.router.config.tokens[0].num_links)
    assert own is model.router
    assert token == model.router.config.tokens[0]
    grown, token = queries.with_queries(model.router, 7)
    assert (token.text, token.num_links, len(grown.query(token))) == ("[GEN]", 7, 7)
    state = grown.state_dict()
    for name, weight in model.router.state_dict().items():
        if name != f"queries.{token.table}.weight":
            torch.testing.assert_close(state[name], weight, atol=0, rtol=0)


def test_queries_prints_every_size_and_the_target(tiny: Path, printed: Printed) -> None:
    threads = torch.get_num_threads()
    queries.main(
        ["--model", str(tiny), "--queries", "8", "--threads", "1", "--batch", "1", "2", "--repeats", "1"]
    )
    found = printed()
    assert (found["benchmark"], found["queries"], found["target_speedup"]) == ("queries", 8, 10.0)
    assert [(run["threads"], run["batch"]) for run in found["runs"]] == [(1, 1), (1, 2)]
    for run in found["runs"]:
        assert {"one_step_ms", "one_by_one_ms", "speedup", "cpu_speedup"} <= run.keys()
        assert run["one_by_one_ms"] > 0
        assert run["one_step_ms"] > 0
    assert found["least_speedup"] == min(run["speedup"] for run in found["runs"])
    assert torch.get_num_threads() == threads


def test_generation_prints_both_times(tiny: Path, printed: Printed) -> None:
    generation.main(["--model", str(tiny), "--tokens", "12", "--repeats", "1"])
    found = printed()
    assert (found["benchmark"], found["prompts"], found["tokens_each"]) == ("generation", 8, 12)
    assert {"one_batch_seconds", "one_by_one_seconds", "speedup", "target_speedup"} <= found.keys()
