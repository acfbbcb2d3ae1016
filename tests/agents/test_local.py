"""The local engine: batches, faults, and callers of several threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model
from superlink.agents.worker import DecoderWorker, answer
from superlink.decoders.artifacts import Boxes, equal
from superlink.decoders.contract import Call, Failure, Result
from superlink.router.errors import InputError, ModelError
from superlink.router.links import SuperLink
from tests.agents.tiny_model import scene


def make_call(model: Model, number: int, *, height: int = 40) -> Call:
    token = model.router.config.tokens[0]
    generator = torch.Generator().manual_seed(number)
    link = SuperLink(
        token=token,
        embeddings=torch.randn(token.num_links, model.router.config.width, generator=generator),
        phrase=f"thing {number}",
        position=0,
    )
    return Call(id=f"grounding_dino.{number}", links=(link,), image=scene(height, seed=number))


def break_on(monkeypatch: pytest.MonkeyPatch, decoder: Any, bad: str, error: BaseException) -> None:
    prepare = type(decoder).prepare

    def failing(self: Any, calls: Sequence[Call], targets: Any = None) -> Any:
        if any(call.id == bad for call in calls):
            raise error
        return prepare(self, calls, targets)

    monkeypatch.setattr(type(decoder), "prepare", failing)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("out of\nmemory"), "decoder"),
        (ValueError(), "decoder"),
        (InputError("too small"), "input"),
    ],
)
def test_a_call_that_fails_leaves_its_neighbours_as_they_are_alone(
    model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    (decoder,) = model.decoders
    calls = [make_call(model, number) for number in range(3)]
    alone = [answer(decoder, [call])[0] for call in calls]
    break_on(monkeypatch, decoder, "grounding_dino.1", error)
    first, failed, third = answer(decoder, calls)
    assert isinstance(failed, Failure)
    assert (failed.call_id, failed.kind) == ("grounding_dino.1", kind)
    assert failed.error
    assert "\n" not in failed.error
    for one, other in ((first, alone[0]), (third, alone[2])):
        assert isinstance(one, Result)
        assert isinstance(other, Result)
        assert equal(one.artifact, other.artifact)


def test_a_batch_answers_as_its_calls_would_alone(model: Model) -> None:
    (decoder,) = model.decoders
    calls = [make_call(model, number, height=30 + 10 * number) for number in range(3)]
    for call, together in zip(calls, answer(decoder, calls), strict=True):
        (alone,) = answer(decoder, [call])
        assert isinstance(together, Result)
        assert isinstance(alone, Result)
        assert together.call_id == call.id
        assert equal(together.artifact, alone.artifact, atol=1e-3)


def test_calls_that_wait_together_run_together(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (decoder,) = model.decoders
    started, go = threading.Event(), threading.Event()
    sizes: list[int] = []
    prepare = type(decoder).prepare

    def slow(self: Any, calls: Sequence[Call], targets: Any = None) -> Any:
        sizes.append(len(calls))
        started.set()
        assert go.wait(30)
        return prepare(self, calls, targets)

    monkeypatch.setattr(type(decoder), "prepare", slow)
    worker = DecoderWorker(decoder)
    futures = [worker.submit([make_call(model, 0)])]
    assert started.wait(30)
    futures += [worker.submit([make_call(model, number)]) for number in (1, 2, 3)]
    go.set()
    ids = [outcome.call_id for future in futures for outcome in future.result(30)]
    worker.close()
    assert ids == [f"grounding_dino.{number}" for number in range(4)]
    assert sizes == [1, 3]


def test_a_defect_loses_its_calls_but_nobody_waits_for_ever(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (decoder,) = model.decoders
    break_on(monkeypatch, decoder, "grounding_dino.0", AssertionError("a defect"))
    worker = DecoderWorker(decoder)
    (lost,) = worker.submit([make_call(model, 0)]).result(30)
    (fine,) = worker.submit([make_call(model, 1)]).result(30)
    worker.close()
    assert isinstance(lost, Failure)
    assert lost.kind == "lost"
    assert isinstance(fine, Result)
    assert "worker failed" in caplog.text


def test_many_threads_get_their_own_answers(model: Model) -> None:
    engine = LocalEngine(model)
    calls = [make_call(model, number) for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda c: engine.submit("grounding_dino", [c]).result(60)[0], calls))
    engine.close()
    for call, outcome in zip(calls, answers, strict=True):
        assert isinstance(outcome, Result)
        assert outcome.call_id == call.id
        assert isinstance(outcome.artifact, Boxes)
        assert outcome.artifact.names == call.names


def test_an_unknown_decoder_is_named_with_the_known_ones(model: Model) -> None:
    engine = LocalEngine(model)
    with pytest.raises(ModelError, match=r"'sam'.*grounding_dino"):
        engine.submit("sam", [])
    engine.close()


def test_no_gradient_is_kept_and_no_mode_leaks_to_the_caller(model: Model) -> None:
    (outcome,) = answer(model.decoders[0], [make_call(model, 0)])
    assert isinstance(outcome, Result)
    assert isinstance(outcome.artifact, Boxes)
    assert isinstance(outcome.artifact.xyxy, np.ndarray)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_a_decoder_that_was_closed_loses_its_calls_and_not_the_reply(model: Model) -> None:
    (decoder,) = model.decoders
    worker = DecoderWorker(decoder)
    worker.close()
    (lost,) = worker.submit([make_call(model, 0)]).result(30)
    assert isinstance(lost, Failure)
    assert (lost.call_id, lost.kind) == ("grounding_dino.0", "lost")
    assert "the engine was closed" in lost.error
