"""What dies, when, and what becomes of the questions that it concerns, and of those that it does not."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch

from superlink.agents.ray.engine import Deployment, RayEngine
from superlink.agents.system import System
from superlink.decoders.artifacts import Text
from superlink.decoders.contract import Call, Failure, Outcome, Result
from superlink.router.errors import LinkError, LostError
from superlink.router.links import SuperLink
from superlink.router.requests import GenerateOptions
from tests.agents.ray.conftest import DET, SEG, is_gone, wait_until
from tests.agents.ray.fakes import SleeperConfig
from tests.agents.tiny_model import reply_ids, scene

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

REPLY = "Here: <det>red circle</det>[DET], <det>star</det>[SEG]."


def make_call(number: int = 0, *, token: Any = DET, width: int = 32, **options: object) -> Call:
    generator = torch.Generator().manual_seed(number)
    link = SuperLink(
        token=token,
        embeddings=torch.randn(token.num_links, width, generator=generator),
        phrase=f"thing {number}",
        position=0,
    )
    return Call(id=f"{token.table}.{number}", links=(link,), options=options)


def said(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Result), outcome
    assert isinstance(outcome.artifact, Text)
    return json.loads(outcome.artifact.text)


def system_of(engine: Deployment, reply: str = REPLY) -> System:
    return System(engine, options=GenerateOptions(forced=reply_ids(reply)))


def kill(engine: Deployment, name: str) -> None:
    """As the kernel would when memory runs out."""
    for actor in engine._actors[name]:
        os.kill(ray.get(actor.ready.remote(), timeout=100), 9)


def test_calls_of_many_callers_gather_while_one_runs(rested: Deployment) -> None:
    first = rested.submit("quick", [make_call(0, seconds=4.0)])
    time.sleep(0.5)
    others = [rested.submit("quick", [make_call(number)]) for number in range(1, 9)]
    assert said(first.result(60)[0])["batch"] == 1
    batches = [said(future.result(60)[0]) for future in others]
    assert [one["names"] for one in batches] == [[f"thing {number}"] for number in range(1, 9)]
    assert max(one["batch"] for one in batches) >= 4
    assert len({one["sum"] for one in batches}) == 8  # every call has its own links


def test_a_call_that_kills_its_decoder_twice_takes_no_other_with_it(rested: Deployment) -> None:
    held = rested.submit("quick", [make_call(0, seconds=2.0)])
    time.sleep(0.2)
    poison = rested.submit("quick", [make_call(1, act="die")])
    innocent = [rested.submit("quick", [make_call(number)]) for number in (2, 3, 4)]
    (failed,) = poison.result(200)
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.call_id) == ("lost", "quick.1")
    for number, future in enumerate(innocent, start=2):
        assert said(future.result(200)[0])["names"] == [f"thing {number}"]
    said(held.result(10)[0])


def test_what_a_decoder_raises_is_a_failure_of_its_call_alone(rested: Deployment) -> None:
    for act, kind in (("memory", "decoder"), ("raise", "decoder"), ("defect", "lost")):
        bad, good = (
            rested.submit("quick", [make_call(0, act=act)]),
            rested.submit("slow", [make_call(1, token=SEG)]),
        )
        (failure,) = bad.result(60)
        assert isinstance(failure, Failure)
        assert failure.kind == kind
        assert "\n" not in failure.error
        said(good.result(60)[0])
    together = rested.submit("quick", [make_call(0), make_call(1, act="memory"), make_call(2)]).result(60)
    assert [isinstance(outcome, Result) for outcome in together] == [True, False, True]


def test_a_full_queue_says_busy_at_once(rested: Deployment) -> None:
    running = rested.submit("quick", [make_call(0, seconds=4.0)])
    time.sleep(0.5)
    futures = [rested.submit("quick", [make_call(number)]) for number in range(1, 120)]
    start = time.monotonic()
    outcomes = [future.result(60)[0] for future in futures]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert refused
    assert {outcome.kind for outcome in refused} == {"busy"}
    assert "ask again later" in refused[0].error
    assert len(outcomes) - len(refused) >= 60  # the queue has 64 places
    assert time.monotonic() - start < 30
    said(running.result(10)[0])


def test_a_graph_never_leaves_its_process(rested: Deployment) -> None:
    call = make_call()
    link = call.links[0]
    grown = SuperLink(
        token=link.token, embeddings=link.embeddings.requires_grad_() * 2, phrase="thing", position=0
    )
    with pytest.raises(LinkError, match="autograd graph"):
        rested.submit("quick", [Call(id="quick.0", links=(grown,))])


def test_an_option_that_cannot_be_sent_is_a_failure(rested: Deployment) -> None:
    (failure,) = rested.submit("quick", [make_call(seconds=threading.Lock())]).result(60)
    assert isinstance(failure, Failure)
    assert failure.kind == "input"
    assert "cannot be sent" in failure.error


def test_a_cancelled_call_never_runs(rested: Deployment) -> None:
    running = rested.submit("quick", [make_call(0, seconds=4.0)])
    time.sleep(0.5)
    before = rested.status().of("quick")[0].done
    waiting = rested.submit("quick", [make_call(1, act="die")])
    time.sleep(0.2)
    assert waiting.cancel()
    said(running.result(60)[0])
    said(rested.submit("quick", [make_call(2)]).result(60)[0])
    status = rested.status().of("quick")[0]
    assert status.done == before + 2
    assert status.up


def test_a_picture_is_put_once_and_cannot_be_written_to(rested: Deployment) -> None:
    picture = scene(seed=5)
    puts = rested._store.puts
    call = Call(id="quick.0", links=make_call().links, image=picture, image_id="")
    first, second = (said(rested.submit("quick", [call]).result(60)[0]) for _ in range(2))
    assert first["pixels"] == second["pixels"] == int(picture.sum())
    assert first["writeable"] is False
    slow = Call(id="slow.0", links=make_call(token=SEG).links, image=picture)
    said(rested.submit("slow", [slow]).result(60)[0])
    assert rested._store.puts == puts + 1


def test_the_text_outlives_a_decoder_and_the_session_goes_on(rested: Deployment) -> None:
    system = system_of(rested)
    session = system.session()
    options = {"slow": {"act": "die"}}
    turn = session.ask("Find.", image=scene(), options=options)
    assert turn.text == "Here: red circle, star."
    assert [failure.call_id for failure in turn.failures] == ["slow.0"]
    assert turn.failures[0].kind == "lost"
    assert len(turn.artifacts) == 1
    again = session.ask("And now?")
    assert not again.failures
    assert len(again.artifacts) == 2


def test_a_deadline_ends_a_turn_that_a_slow_decoder_keeps(rested: Deployment) -> None:
    start = time.monotonic()
    turn = system_of(rested).ask("Find.", image=scene(), options={"slow": {"seconds": 30.0}}, deadline=10.0)
    assert time.monotonic() - start < 20
    assert turn.text == "Here: red circle, star."
    assert [(one.call_id, one.kind) for one in turn.failures] == [("slow.0", "timeout")]
    kill(rested, "slow")  # half a minute of sleep is nobody's business now


def test_what_a_router_has_written_outlives_it(rested: Deployment) -> None:
    words = " ".join(["Here: <det>red circle</det>[DET]"] * 40)
    whole = system_of(rested, words).ask("Find.", image=scene()).text
    pid = ray.get(rested._actors["router"][0].ready.remote(), timeout=100)

    class Dying:
        """The engine, whose router is killed when it has written its first words."""

        decoders = rested.decoders
        submit = rested.submit

        def stream(self, requests: Any) -> Iterator[Any]:
            for number, event in enumerate(rested.stream(requests)):
                if number == 1:
                    os.kill(pid, 9)
                yield event

    engine: Any = Dying()
    turn = system_of(engine, words).ask("Find.", image=scene())
    assert turn.failures[0].call_id == "router"
    assert turn.failures[0].kind == "lost"
    assert turn.text
    assert whole.startswith(turn.text)
    assert len(turn.text) < len(whole)
    wait_until(lambda: rested.status().of("router")[0].up)
    assert not system_of(rested).ask("Find.", image=scene()).failures


def test_a_router_that_died_while_nobody_asked_is_not_noticed(rested: Deployment) -> None:
    kill(rested, "router")
    turn = system_of(rested).ask("Find.", image=scene())
    assert turn.text == "Here: red circle, star."
    assert not turn.failures


def test_closing_a_stream_stops_it(rested: Deployment) -> None:
    from superlink.router.messages import Message
    from superlink.router.requests import Request

    ids = reply_ids(" ".join(["Here they are:"] * 40))
    request = Request(conversation=(Message(role="user", text="Find."),), options=GenerateOptions(forced=ids))
    done = rested.status().of("router")[0].done
    events = rested.stream([request])
    next(events)
    events.close()
    wait_until(lambda: not rested.status().of("router")[0].running, 30)
    assert rested.status().of("router")[0].done == done  # not even behind the caller's back
    list(rested.stream([request]))
    assert rested.status().of("router")[0].done == done + 1


def test_a_closed_engine_says_so(rested: Deployment, sleeper_folder: Any, placement: Any) -> None:
    from superlink.agents.ray.replicas import Replicas

    replicas = Replicas("quick", [], placement.decoder, store=rested._store, courier=rested._courier)
    (gone,) = replicas.submit([make_call()]).result(5)
    assert isinstance(gone, Failure)
    assert gone.kind == "lost"
    replicas.close()
    with pytest.raises(LostError, match="closed"):
        replicas.submit([make_call()])


def test_actors_end_though_closing_is_broken_off(
    runtime: Any, sleeper_folder: Any, placement: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RayEngine(placement=placement).start(sleeper_folder, decoders=[SleeperConfig])
    actors = [actor for own in engine._actors.values() for actor in own]

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine._replicas["quick"], "close", interrupted)  # its last call takes too long
    with pytest.raises(KeyboardInterrupt):
        engine.close()
    wait_until(lambda: all(map(is_gone, actors)))
