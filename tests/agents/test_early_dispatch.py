"""Decoders that start before the reply is written: sooner, and with the same outcomes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.agents.asking import Question, answer
from superlink.agents.dispatch import Dispatcher, Task
from superlink.agents.pictures import SourcePicture
from superlink.decoders.artifacts import Text
from superlink.decoders.contract import Call, Failure, Outcome, Result
from superlink.router.links import Reply, SuperLink
from superlink.router.messages import Message
from superlink.router.requests import Event, Finished, GenerateOptions, LinkReady, Request, TextDelta
from superlink.router.tokens import RoutingToken
from tests.agents.test_dispatch import CUT, DET, GEN, ODD, PICTURE, POSE, SEG, RecordingEngine, link, words

LIMIT = 60.0  # seconds; nothing here takes a hundredth of it


def started(engine: RecordingEngine) -> list[tuple[str, tuple[str, ...]]]:
    return [(call.token.text, (*call.names, *call.parts)) for _, calls in engine.submitted for call in calls]


def test_a_call_starts_when_a_link_of_another_token_comes() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for phrase in ("cat", "dog"):
        dispatcher.link(0, link(DET, phrase))
    assert engine.submitted == []
    dispatcher.link(0, link(SEG, "cat"))
    assert started(engine) == [("[DET]", ("cat", "dog"))]
    dispatcher.finish()
    assert started(engine)[1:] == [("[SEG]", ("cat",))]
    for number in range(2):
        engine.finish(number)
    assert words(dispatcher.outcomes(0)) == ["cat+dog", "cat"]


@pytest.mark.parametrize(
    ("deltas", "ended"),
    [
        ((".", " And"), True),
        ((", a dog!\n",), True),
        (("? ",), True),
        ((", and", " 3.5 more"), False),
        ((".",), False),
    ],
)
def test_a_call_starts_when_the_sentence_has_ended(deltas: Sequence[str], ended: bool) -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    dispatcher.text(0, "Look. There is a cat")
    dispatcher.link(0, link(DET, "cat"))
    for delta in deltas:
        dispatcher.text(0, delta)
    assert bool(engine.submitted) == ended
    dispatcher.finish()
    assert started(engine) == [("[DET]", ("cat",))]


def test_a_reply_that_is_written_does_not_wait_for_the_others() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)] * 2)
    for row in range(2):
        dispatcher.link(row, link(DET, f"cat {row}"))
    dispatcher.written(1)
    assert started(engine) == [("[DET]", ("cat 1",))]
    dispatcher.finish()
    assert started(engine) == [("[DET]", ("cat 1",)), ("[DET]", ("cat 0",))]
    assert [words(dispatcher.outcomes(row)) for row in range(2)] == [["cat 0"], ["cat 1"]]


def test_a_call_that_was_not_complete_is_given_up_and_made_once_more_at_the_end() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for token, phrase in [(DET, "cat"), (SEG, "cat"), (DET, "dog"), (SEG, "dog"), (DET, "fox")]:
        dispatcher.link(0, link(token, phrase))
    assert started(engine) == [("[DET]", ("cat",)), ("[SEG]", ("cat",))]
    assert all(future.cancelled() for future in engine.futures)
    dispatcher.finish()
    assert started(engine)[2:] == [("[DET]", ("cat", "dog", "fox")), ("[SEG]", ("cat", "dog"))]
    engine.finish(2)
    assert words(dispatcher.outcomes(0)) == ["cat+dog+fox", "cat+dog"]


def test_what_an_early_call_gave_before_it_was_given_up_is_forgotten() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for token, phrase in [(DET, "cat"), (SEG, "cat"), (DET, "dog")]:
        dispatcher.link(0, link(token, phrase))
    dispatcher.finish()
    assert words(dispatcher.outcomes(0)) == ["cat+dog", "cat"]


def test_keypoints_start_early_with_the_objects_that_they_belong_to() -> None:
    engine = RecordingEngine()
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for token, phrase in [(DET, "man"), (POSE, "nose"), (POSE, "tail")]:
        dispatcher.link(0, link(token, phrase))
    assert engine.submitted == []
    dispatcher.link(0, link(SEG, "man"))
    assert started(engine) == [("[POSE]", ("man", "nose", "tail"))]
    dispatcher.finish()
    assert words(dispatcher.outcomes(0)) == ["man", "man"]


def test_objects_that_started_early_go_into_the_call_of_their_keypoints_after_all() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    for token, phrase in [(DET, "man"), (SEG, "man"), (POSE, "nose")]:
        dispatcher.link(0, link(token, phrase))
    assert engine.futures[0].cancelled()
    dispatcher.finish()
    assert started(engine) == [("[DET]", ("man",)), ("[SEG]", ("man",)), ("[POSE]", ("man", "nose"))]
    for number in (1, 2):
        engine.finish(number)
    assert words(dispatcher.outcomes(0)) == ["man", "man"]


@pytest.mark.parametrize("reached", [0, 1])
def test_a_chain_that_started_early_can_be_given_up_at_either_decoder(reached: int) -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    dispatcher.link(0, link(CUT, "cat"))
    dispatcher.link(0, link(SEG, "cat"))
    if reached:
        engine.finish(0)
    dispatcher.link(0, link(CUT, "dog"))
    assert engine.futures[reached].cancelled()
    dispatcher.finish()
    number = len(engine.futures) - 2
    while number < len(engine.futures):
        if not engine.futures[number].done():
            engine.finish(number)
        number += 1
    assert words(dispatcher.outcomes(0)) == ["cat+dog", "cat"]


def test_a_chain_whose_first_decoder_cannot_be_stopped_asks_no_second() -> None:
    engine = RecordingEngine(at_once=False)
    dispatcher = Dispatcher(engine, [Task(image=PICTURE)])
    dispatcher.link(0, link(CUT, "cat"))
    dispatcher.link(0, link(SEG, "cat"))
    assert engine.futures[0].set_running_or_notify_cancel()
    dispatcher.link(0, link(CUT, "dog"))
    assert not engine.futures[0].cancelled()
    engine.futures[0].set_result([Result(call_id="cutter.0", artifact=Text(text="cat"))])
    assert "cutter" not in [decoder for decoder, _ in engine.submitted]


def told(outcome: Outcome) -> tuple[str, str, str]:
    if isinstance(outcome, Failure):
        return outcome.call_id, outcome.kind, outcome.error
    assert isinstance(outcome.artifact, Text)
    return outcome.call_id, "", outcome.artifact.text


steps = st.tuples(
    st.integers(0, 1),
    st.one_of(st.sampled_from([DET, SEG, GEN, CUT, POSE, ODD]), st.sampled_from([". A", ", "])),
)


@given(st.lists(steps, max_size=14), st.sampled_from([PICTURE, None]), st.booleans())
def test_outcomes_are_those_of_decoders_that_start_at_the_end(
    script: list[tuple[int, RoutingToken | str]], image: Any, at_once: bool
) -> None:
    found = []
    for early in (True, False):
        engine = RecordingEngine(at_once=at_once)
        dispatcher = Dispatcher(engine, [Task(image=image)] * 2, early=early)
        for number, (row, step) in enumerate(script):
            if isinstance(step, str):
                dispatcher.text(row, step)
            else:
                dispatcher.link(row, link(step, f"{number}"))
        dispatcher.written(0)
        dispatcher.finish()
        number = 0
        while number < len(engine.futures):
            if not engine.futures[number].done():
                engine.finish(number)
            number += 1
        found.append([[told(one) for one in dispatcher.outcomes(row)] for row in range(2)])
    assert found[0] == found[1]


class Writing:
    """A router that writes forty words with two links, and decoders that take until the words are written.

    `order` is what happened, one after the other.
    """

    def __init__(self) -> None:
        self.decoders: Any = RecordingEngine().decoders
        self.order: list[str] = []
        self._lock = threading.Lock()
        self._begun = {"finder": threading.Event(), "cutter": threading.Event()}
        self._threads = ThreadPoolExecutor(4)

    def note(self, what: str) -> None:
        with self._lock:
            self.order.append(what)

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        links: list[SuperLink] = []
        for number in range(40):
            yield TextDelta(row=0, text=f" word{number}")
            if number in (3, 6):
                links.append(link(DET if number == 3 else CUT, "cat"))
                yield LinkReady(row=0, link=links[-1])
            if number == 9:
                yield TextDelta(row=0, text=". Then")
        # Both decoders have begun before the last word; nobody could wait here otherwise.
        for begun in self._begun.values():
            assert begun.wait(LIMIT)
        self.note("written")
        reply = Reply(text="", raw="", links=tuple(links), token_ids=())
        yield Finished(row=0, reply=reply, reason="end")

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        return self._threads.submit(self._answer, decoder, list(calls))

    def _answer(self, decoder: str, calls: Sequence[Call]) -> list[Outcome]:
        self.note(f"{decoder} begins")
        self._begun[decoder].set()
        return [Result(call_id=call.id, artifact=Text(text="+".join(call.names))) for call in calls]

    def close(self) -> None:
        self._threads.shutdown()


def test_both_decoders_of_a_long_answer_work_while_it_is_written() -> None:
    engine = Writing()
    picture = SourcePicture(pixels=np.zeros((4, 4, 3), np.uint8), id="0")
    question = Question(conversation=(Message(role="user", text="Find and cut."),), picture=picture)
    (turn,) = answer(engine, [question], GenerateOptions())
    engine.close()
    # The masks' chain asks the finder first, then the cutter; the boxes ask the finder.
    assert engine.order[-1] == "written"
    assert sorted(engine.order[:-1]) == ["cutter begins", "finder begins", "finder begins"]
    assert turn.failures == ()
    assert [one.text for one in turn.artifacts if isinstance(one, Text)] == ["cat", "cat"]
