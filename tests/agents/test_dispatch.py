"""The dispatcher over an engine that only records what it is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from superlink.agents.dispatch import Dispatcher, Task
from superlink.decoders.artifacts import Boxes, Text
from superlink.decoders.contract import Call, Failure, Outcome, Result, Route
from superlink.router.links import SuperLink
from superlink.router.tokens import RoutingToken

DET = RoutingToken(text="[DET]", decoder="finder", table="det", num_links=2)
SEG = RoutingToken(text="[SEG]", decoder="finder", table="det", num_links=2)
GEN = RoutingToken(text="[GEN]", decoder="painter", table="gen", num_links=3)
CUT = RoutingToken(text="[CUT]", decoder="cutter", table="det", num_links=2)
POSE = RoutingToken(text="[POSE]", decoder="poser", table="pose", num_links=2)
ODD = RoutingToken(text="[ODD]", decoder="nobody", table="odd", num_links=1)
PICTURE = np.zeros((4, 4, 3), np.uint8)


class RecordingEngine:
    """Answers with the phrases of each call, at once or when told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        finder = SimpleNamespace(
            name="finder",
            gather=True,
            needs_image=True,
            routes=(Route(token=DET, returns=Boxes), Route(token=SEG, returns=Boxes)),
        )
        painter = SimpleNamespace(
            name="painter", gather=False, needs_image=False, routes=(Route(token=GEN, returns=Text),)
        )
        cutter = SimpleNamespace(
            name="cutter",
            gather=True,
            needs_image=True,
            routes=(Route(token=CUT, returns=Text, after="[DET]"),),
        )
        poser = SimpleNamespace(
            name="poser",
            gather=True,
            needs_image=True,
            routes=(Route(token=POSE, returns=Text, takes=(DET,)),),
        )
        self.decoders: Any = (finder, painter, cutter, poser)
        self.at_once = at_once
        self.closed = False
        self.submitted: list[tuple[str, list[Call]]] = []
        self.futures: list[Future[list[Outcome]]] = []

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.submitted.append((decoder, list(calls)))
        self.futures.append(Future())
        if self.at_once:
            self.finish(len(self.futures) - 1)
        return self.futures[-1]

    def finish(self, number: int) -> None:
        calls = self.submitted[number][1]
        self.futures[number].set_result(
            [Result(call_id=call.id, artifact=Text(text="+".join(call.names))) for call in calls]
        )


def link(token: RoutingToken, phrase: str, position: int = 0) -> SuperLink:
    return SuperLink(
        token=token, embeddings=torch.zeros(token.num_links, 8), phrase=phrase, position=position
    )


def words(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        outcome.artifact.text if isinstance(outcome, Result) and isinstance(outcome.artifact, Text) else "-"
        for outcome in outcomes
    ]


def words_of_inputs(call: Call) -> list[str]:
    return [one.text for one in call.inputs if isinstance(one, Text)]


def test_links_of_one_token_are_one_call_and_all_replies_are_one_submission() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE), Task(image=PICTURE)], early=False)
    for row, token, phrase in [(0, DET, "cat"), (0, SEG, "dog"), (1, DET, "bird"), (0, DET, "fox")]:
        dispatcher.link(row, link(token, phrase))
    assert engine.submitted == []
    dispatcher.finish()
    ((decoder, calls),) = engine.submitted
    assert decoder == "finder"
    assert [(call.id, call.names) for call in calls] == [
        ("finder.0", ("cat", "fox")),
        ("finder.1", ("dog",)),
        ("finder.0", ("bird",)),
    ]
    assert words(dispatcher.outcomes(0)) == ["cat+fox", "dog"]
    assert words(dispatcher.outcomes(1)) == ["bird"]


def test_what_a_reply_names_twice_is_looked_for_once_and_painted_twice() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for token, phrase in [
        (DET, "cat"),
        (DET, "fox"),
        (DET, "cat"),
        (SEG, "cat"),
        (GEN, "a fox"),
        (GEN, "a fox"),
    ]:
        dispatcher.link(0, link(token, phrase))
    dispatcher.finish()
    assert words(dispatcher.outcomes(0)) == ["cat+fox", "cat", "a fox", "a fox"]


def test_a_decoder_that_does_not_gather_starts_while_the_reply_is_written() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)], early=False)
    dispatcher.link(0, link(DET, "cat"))
    dispatcher.link(0, link(GEN, "a house"))
    assert [decoder for decoder, _ in engine.submitted] == ["painter"]
    dispatcher.link(0, link(GEN, "a tree"))
    dispatcher.finish()
    assert words(dispatcher.outcomes(0)) == ["cat", "a house", "a tree"]
    assert [call.id for _, calls in engine.submitted for call in calls] == [
        "painter.0",
        "painter.1",
        "finder.0",
    ]


def test_outcomes_keep_reply_order_whatever_finishes_first() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for phrase in ("first", "second", "third"):
        dispatcher.link(0, link(GEN, phrase))
    dispatcher.finish()
    for number in (2, 0, 1):
        engine.finish(number)
    assert words(dispatcher.outcomes(0)) == ["first", "second", "third"]


def test_a_route_that_builds_on_another_gets_what_that_one_found() -> None:
    engine = RecordingEngine(at_once=False)
    earlier = Text(text="of an earlier round")
    dispatcher = Dispatcher(engine, [Task(image=PICTURE, inputs=(earlier,)), Task(image=PICTURE)])
    dispatcher.link(0, link(CUT, "cat"))
    dispatcher.link(1, link(DET, "bird"))
    dispatcher.link(1, link(CUT, "dog"))
    dispatcher.finish()
    asked = {call.names: (decoder, call) for decoder, calls in engine.submitted for call in calls}
    assert [decoder for decoder, _ in asked.values()] == ["finder"] * 3
    first = asked["cat",][1]
    assert (first.token, first.inputs) == (DET, (earlier,))
    for number in range(len(engine.futures)):
        engine.finish(number)
    decoder, calls = engine.submitted[-1]
    assert decoder == "cutter"
    assert [(call.token, call.id, words_of_inputs(call)) for call in calls] == [
        (CUT, "cutter.0", ["cat"]),
        (CUT, "cutter.0", ["dog"]),
    ]
    engine.finish(len(engine.futures) - 1)
    assert words(dispatcher.outcomes(0)) == ["cat"]
    assert words(dispatcher.outcomes(1)) == ["bird", "dog"]


def test_what_the_first_decoder_fails_at_fails_alone() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE), Task(image=PICTURE)])
    dispatcher.link(0, link(CUT, "cat"))
    dispatcher.link(1, link(CUT, "dog"))
    dispatcher.finish()
    bad = Failure(call_id="cutter.0", error="no cat", kind="decoder")
    engine.futures[0].set_result([bad, Result(call_id="cutter.0", artifact=Text(text="dog"))])
    ((_, calls),) = engine.submitted[1:]
    assert [call.names for call in calls] == [("dog",)]
    engine.finish(1)
    (failed,) = dispatcher.outcomes(0)
    assert isinstance(failed, Failure)
    assert (failed.call_id, failed.error, failed.kind) == ("cutter.0", "no cat", "decoder")
    assert words(dispatcher.outcomes(1)) == ["dog"]


def test_a_chain_that_is_cancelled_half_way_is_a_failure() -> None:
    for stopped in (0, 1):
        engine = RecordingEngine(at_once=False)
        dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
        dispatcher.link(0, link(CUT, "cat"))
        dispatcher.finish()
        if stopped:
            engine.finish(0)
        engine.futures[stopped].cancel()
        (outcome,) = dispatcher.outcomes(0)
        assert isinstance(outcome, Failure)
        assert outcome.kind == "cancelled"


def test_an_engine_that_closes_half_way_loses_the_call_and_hangs_nobody() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    dispatcher.link(0, link(CUT, "cat"))
    dispatcher.finish()
    engine.closed = True
    engine.finish(0)
    (outcome,) = dispatcher.outcomes(0)
    assert isinstance(outcome, Failure)
    assert (outcome.call_id, outcome.kind) == ("cutter.0", "lost")


def test_objects_go_along_with_their_keypoints() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE), Task(image=PICTURE)])
    for token, phrase in [(POSE, "nose"), (DET, "man"), (POSE, "tail"), (DET, "cat"), (SEG, "dog")]:
        dispatcher.link(0, link(token, phrase))
    dispatcher.link(1, link(DET, "bird"))
    dispatcher.finish()
    calls = {(decoder, call.id): call for decoder, calls in engine.submitted for call in calls}
    pose = calls["poser", "poser.0"]
    assert (pose.token, pose.names, pose.parts) == (POSE, ("man", "cat"), ("nose", "tail"))
    assert words(dispatcher.outcomes(0)) == ["man+cat", "dog"]
    assert words(dispatcher.outcomes(1)) == ["bird"]


def test_keypoints_of_nothing_are_a_failure() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    dispatcher.link(0, link(POSE, "nose"))
    dispatcher.finish()
    (outcome,) = dispatcher.outcomes(0)
    assert isinstance(outcome, Failure)
    assert "no [DET]" in outcome.error
    assert engine.submitted == []


def test_what_is_late_fails_alone() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE, deadline=time.monotonic() + 0.05)])
    dispatcher.link(0, link(GEN, "quick"))
    dispatcher.link(0, link(GEN, "slow"))
    dispatcher.finish()
    engine.finish(0)
    quick, slow = dispatcher.outcomes(0)
    assert words([quick]) == ["quick"]
    assert isinstance(slow, Failure)
    assert (slow.call_id, slow.kind) == ("painter.1", "timeout")


def test_a_deadline_beyond_every_clock_is_waited_for() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE, deadline=1e300)])
    dispatcher.link(0, link(GEN, "slow"))
    threading.Timer(0.05, engine.finish, [0]).start()
    assert words(dispatcher.outcomes(0)) == ["slow"]


def test_a_cancelled_call_is_a_failure() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task()])
    dispatcher.link(0, link(GEN, "a house"))
    engine.futures[0].cancel()
    (outcome,) = dispatcher.outcomes(0)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "cancelled"


def test_without_a_picture_only_the_decoders_that_look_fail() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task()])
    dispatcher.link(0, link(DET, "cat"))
    dispatcher.link(0, link(GEN, "a house"))
    dispatcher.finish()
    blind, painted = dispatcher.outcomes(0)
    assert isinstance(blind, Failure)
    assert (blind.kind, "picture" in blind.error) == ("input", True)
    assert words([painted]) == ["a house"]
    assert [decoder for decoder, _ in engine.submitted] == ["painter"]


def test_a_token_that_nobody_answers_is_a_failure_of_its_own() -> None:
    dispatcher = Dispatcher(RecordingEngine(), [Task(image=PICTURE)])
    dispatcher.link(0, link(ODD, "what"))
    dispatcher.link(0, link(DET, "cat"))
    dispatcher.finish()
    odd, found = dispatcher.outcomes(0)
    assert isinstance(odd, Failure)
    assert odd.call_id == "nobody.0"
    assert "[DET]" in odd.error
    assert words([found]) == ["cat"]


def test_calls_carry_what_the_question_said() -> None:
    engine = RecordingEngine()
    ref = Text(text="earlier")
    task = Task(image=PICTURE, image_id="abc", inputs=(ref,), seed=7, threshold=0.25)
    dispatcher = Dispatcher(engine, [task])
    dispatcher.link(0, link(DET, "cat"))
    dispatcher.finish()
    ((_, (call,)),) = engine.submitted
    assert call.image is PICTURE
    assert (call.image_id, call.inputs, call.seed, call.threshold) == ("abc", (ref,), 7, 0.25)


def test_every_call_has_the_options_of_its_own_question() -> None:
    engine = RecordingEngine()
    asked: list[dict[str, dict[str, object]]] = [{"painter": {"steps": 3}}, {}, {"finder": {"a": 1}}]
    dispatcher = Dispatcher(engine, [Task(image=PICTURE, options=options) for options in asked])
    for row in range(3):
        dispatcher.link(row, link(GEN, "a house"))
        dispatcher.link(row, link(DET, "cat"))
    dispatcher.finish()
    given_options = {
        decoder: [dict(call.options) for name, calls in engine.submitted for call in calls if name == decoder]
        for decoder in ("painter", "finder")
    }
    assert given_options == {"painter": [{"steps": 3}, {}, {}], "finder": [{}, {}, {"a": 1}]}


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([DET, SEG, GEN])), max_size=12))
def test_every_link_reaches_its_decoder_once_in_reading_order(script: list[tuple[int, RoutingToken]]) -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)] * 3)
    for number, (row, token) in enumerate(script):
        dispatcher.link(row, link(token, f"{row}:{number}"))
    dispatcher.finish()
    for row in range(3):
        said = [f"{row}:{n}" for n, (place, _) in enumerate(script) if place == row]
        groups = [text.split("+") for text in words(dispatcher.outcomes(row))]
        assert sorted(name for group in groups for name in group) == sorted(said)
        assert [group[0] for group in groups] == sorted((g[0] for g in groups), key=said.index)
        for group in groups:
            assert group == sorted(group, key=said.index)
