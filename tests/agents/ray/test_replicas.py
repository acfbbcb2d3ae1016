"""Replicas of a decoder, with an actor that is none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import Any

import pytest
import torch
from ray.exceptions import ActorUnavailableError, ObjectStoreFullError

from superlink.agents.ray.courier import Courier
from superlink.agents.ray.placement import DecoderPlacement
from superlink.agents.ray.replicas import Replicas
from superlink.agents.ray.transport import PictureStore, packed_outcomes
from superlink.decoders.artifacts import Text
from superlink.decoders.contract import Call, Failure, Result
from superlink.router.errors import LinkError
from superlink.router.links import SuperLink
from superlink.router.tokens import RoutingToken
from tests.agents.ray.conftest import wait_until

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


class Held:
    """Answers when the test says so, and takes nothing while the test refuses it."""

    def __init__(self) -> None:
        self.refusing: Exception | None = None
        self.answers: list[Future[Any]] = []  # to every call that was sent
        self.pings: list[Future[Any]] = []
        self.answer = _Method(self, self.answers)
        self.ready = _Method(self, self.pings)

    def dies(self) -> None:
        """The call that is on its way ends the actor, which will be back."""
        self.answers[-1].set_exception(ActorUnavailableError("it died", None))
        wait_until(lambda: self.pings, 10)

    def is_back(self) -> None:
        self.pings[-1].set_result(1)


class _Method:
    def __init__(self, actor: Held, sent: list[Future[Any]]) -> None:
        self._actor = actor
        self._sent = sent

    def remote(self, *arguments: Any) -> _Method:
        if arguments and self._actor.refusing is not None:
            raise self._actor.refusing
        self._sent.append(Future())
        return self

    def future(self) -> Future[Any]:
        return self._sent[-1]


GOOD = packed_outcomes([Result(call_id="d.0", artifact=Text(text="yes"))])
REFUSALS = [ObjectStoreFullError("the store is full"), MemoryError(), RuntimeError("Ray ends")]


def a_call(embeddings: torch.Tensor | None = None) -> Call:
    numbers = torch.ones(4, 8) if embeddings is None else embeddings
    return Call(id="d.0", links=(SuperLink(token=TOKEN, embeddings=numbers, phrase="thing", position=0),))


@pytest.fixture
def courier() -> Iterator[Courier]:
    courier = Courier()
    yield courier
    courier.close()


def replicas_of(*actors: Any, courier: Courier) -> Replicas:
    store = PictureStore(lambda picture: None)
    return Replicas("d", actors, DecoderPlacement(), store=store, courier=courier)


def test_an_answer_that_cannot_be_read_fails_at_once_and_harms_no_other(courier: Courier) -> None:
    replicas = replicas_of(Actor(b"no pickle", GOOD), courier=courier)
    (failed,) = replicas.submit([a_call()]).result(5)
    assert isinstance(failed, Failure)
    assert failed.kind == "decoder"
    assert "cannot be read" in failed.error
    (answered,) = replicas.submit([a_call()]).result(5)
    assert isinstance(answered, Result)
    replicas.close()


def test_closing_does_not_wait_for_a_call_that_is_cancelled_meanwhile(courier: Courier) -> None:
    actor = Held()
    replicas = replicas_of(actor, courier=courier)
    suspect = replicas.submit([a_call()])
    actor.dies()
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(replicas.close)
        with pytest.raises(StillRunning):
            closing.result(0.2)
        assert suspect.cancel()
        closing.result(10)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_call_that_cannot_be_sent_fails_alone(courier: Courier, error: Exception) -> None:
    full, sound = Held(), Held()
    full.refusing = error
    replicas = replicas_of(full, sound, courier=courier)
    answer = replicas.submit([a_call(), a_call()])
    sound.answers[0].set_result(GOOD)
    failed, answered = answer.result(10)
    assert isinstance(failed, Failure)
    assert failed.kind == "lost"
    assert "could not be sent" in failed.error
    assert isinstance(answered, Result)
    replicas.close()


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_call_that_cannot_be_sent_again_fails_and_those_behind_it_go_on(
    courier: Courier, error: Exception
) -> None:
    actor = Held()
    replicas = replicas_of(actor, courier=courier)
    first = replicas.submit([a_call()])
    actor.dies()
    second = replicas.submit([a_call()])
    actor.refusing = error
    actor.is_back()
    for one in (first, second):
        (failed,) = one.result(10)
        assert isinstance(failed, Failure)
        assert failed.kind == "lost"
    actor.refusing = None
    third = replicas.submit([a_call()])
    actor.answers[-1].set_result(GOOD)
    assert isinstance(third.result(10)[0], Result)
    replicas.close()


def test_a_link_with_a_graph_is_refused_before_any_call_is_sent(courier: Courier) -> None:
    actors = Held(), Held()
    replicas = replicas_of(*actors, courier=courier)
    grown = a_call(torch.ones(4, 8, requires_grad=True) * 2)
    with pytest.raises(LinkError, match="autograd graph"):
        replicas.submit([a_call(), grown])
    assert [actor.answers for actor in actors] == [[], []]
    replicas.close()  # which would wait for calls that were sent


def test_nothing_runs_beside_a_call_that_may_have_killed_its_actor(courier: Courier) -> None:
    actor = Held()
    replicas = replicas_of(actor, courier=courier)
    suspect = replicas.submit([a_call()])
    actor.dies()
    actor.is_back()
    wait_until(lambda: len(actor.answers) == 2, 10)
    newcomer = replicas.submit([a_call()])
    assert len(actor.answers) == 2  # what may be sent at once is sent by now
    actor.answers[1].set_result(GOOD)
    assert isinstance(suspect.result(10)[0], Result)
    wait_until(lambda: len(actor.answers) == 3, 10)
    actor.answers[2].set_result(GOOD)
    assert isinstance(newcomer.result(10)[0], Result)
    replicas.close()
