"""Replicas of a decoder, with an actor that is none."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import torch

from superlink.agents.ray.courier import Courier
from superlink.agents.ray.placement import DecoderPlacement
from superlink.agents.ray.replicas import Replicas
from superlink.agents.ray.transport import PictureStore, packed_outcomes
from superlink.decoders.artifacts import Text
from superlink.decoders.contract import Call, Failure, Result
from superlink.router.links import SuperLink
from superlink.router.tokens import RoutingToken

TOKEN = RoutingToken(text="[DET]", decoder="d", table="det")


class Answer:
    """What Ray hands out for a method call: ready at once."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def future(self) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(self.value)
        return done


class Actor:
    """Answers one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.answer = self

    def remote(self, *arguments: Any) -> Answer:
        return Answer(self.answers.pop(0))


def a_call() -> Call:
    link = SuperLink(token=TOKEN, embeddings=torch.ones(4, 8), phrase="thing", position=0)
    return Call(id="d.0", links=(link,))


def test_an_answer_that_cannot_be_read_fails_at_once_and_harms_no_other() -> None:
    good = packed_outcomes([Result(call_id="d.0", artifact=Text(text="yes"))])
    courier = Courier()
    replicas = Replicas(
        "d",
        [Actor(b"no pickle", good)],
        DecoderPlacement(),
        store=PictureStore(lambda picture: None),
        courier=courier,
    )
    (failed,) = replicas.submit([a_call()]).result(5)
    assert isinstance(failed, Failure)
    assert failed.kind == "decoder"
    assert "cannot be read" in failed.error
    (answered,) = replicas.submit([a_call()]).result(5)
    assert isinstance(answered, Result)
    replicas.close()
    courier.close()
