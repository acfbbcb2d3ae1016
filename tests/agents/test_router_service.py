"""One router for many threads: replies are those of a router alone, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from superlink.agents import router_service
from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model
from superlink.agents.router_service import RouterService
from superlink.agents.system import System
from superlink.decoders.artifacts import equal
from superlink.router.errors import BusyError, InputError, LostError
from superlink.router.generation import GenerateOptions, Request, generate
from superlink.router.links import Reply
from superlink.router.messages import Message, Point
from superlink.router.requests import Event, Finished, LinkReady, TextDelta
from tests.agents.tiny_model import build_model, reply_ids, scene

LIMIT = 60.0  # seconds; nothing here takes a hundredth of it


@pytest.fixture(scope="module")
def model() -> Model:
    """One whose free replies are long, many and different."""
    model = build_model(seed=1)
    language = model.router.language
    with torch.no_grad():
        for weight in (language.lm_head.weight, language.get_input_embeddings().weight):
            torch.nn.init.normal_(weight, std=0.5)
        for token in ("[DET]", "[SEG]"):
            language.lm_head.weight[model.tokenizer.id_of(token)] *= 2
    return model


class Gate:
    """Holds every pass of the language model back until the test lets it go."""

    def __init__(self, model: Model) -> None:
        self.opened = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)
        self.failing: BaseException | None = None
        self._hook = model.router.language.model.register_forward_pre_hook(self._wait)

    def _wait(self, *_: object) -> None:
        self.reached.release()
        assert self.opened.acquire(timeout=LIMIT)
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error

    def at_step(self) -> None:
        """Wait until the router stands before its next pass."""
        assert self.reached.acquire(timeout=LIMIT)

    def step(self) -> None:
        """Let one pass go, and wait for the next one."""
        self.opened.release()
        self.at_step()

    def open(self) -> None:
        self._hook.remove()
        self.opened.release(10**6)


@pytest.fixture
def gate(model: Model) -> Iterator[Gate]:
    gate = Gate(model)
    yield gate
    gate.open()


@pytest.fixture
def service(model: Model) -> Iterator[RouterService]:
    service = RouterService(model.router, model.tokenizer)
    yield service
    service.close()


def request(text: str, *, picture: int | None = None, seed: int = 0, tokens: int = 12, **own: Any) -> Request:
    images = () if picture is None else (scene(seed=picture),)
    options = GenerateOptions(max_new_tokens=tokens, temperature=1.5, seed=seed)
    return Request(conversation=(Message(role="user", text=text, images=images),), options=options, **own)


def forced(text: str, *said: str) -> Request:
    options = GenerateOptions(forced=reply_ids(*said))
    return Request(conversation=(Message(role="user", text=text),), options=options)


def replies_of(events: Sequence[Event]) -> list[Reply]:
    found = {event.row: event.reply for event in events if isinstance(event, Finished)}
    return [found[row] for row in sorted(found)]


def check_same(found: Sequence[Reply], expected: Sequence[Reply]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.token_ids, one.text) == (other.token_ids, other.text)
        for link, alone in zip(one.links, other.links, strict=True):
            torch.testing.assert_close(link.embeddings, alone.embeddings, atol=1e-5, rtol=0)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


class Asking:
    """A caller in a thread of its own."""

    def __init__(self, service: RouterService, *requests: Request) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(lambda: list(service.stream(requests)))
        self._pool.shutdown(wait=False)

    def replies(self) -> list[Reply]:
        return replies_of(self._future.result(LIMIT))


def test_sixteen_threads_get_what_each_would_get_alone(
    model: Model, service: RouterService, gate: Gate
) -> None:
    requests = [
        request(f"find star {n}" * (1 + n % 3), picture=n % 4 if n % 3 else None, seed=n) for n in range(16)
    ]
    asking = [Asking(service, one) for one in requests[:1]]
    gate.at_step()
    asking += [Asking(service, one) for one in requests[1:]]
    until(lambda: service.status().running + service.status().waiting == 16)
    gate.open()
    found = [reply for one in asking for reply in one.replies()]
    check_same(found, [generate(model.router, model.tokenizer, [one])[0] for one in requests])
    assert any(reply.links for reply in found)
    status = service.status()
    assert (status.running, status.waiting) == (0, 0)
    assert status.tokens == sum(len(reply.token_ids) for reply in found)
    assert status.rows_per_step > 4
    assert status.steps < status.tokens


def test_a_request_joins_replies_that_are_being_written(
    model: Model, service: RouterService, gate: Gate
) -> None:
    long = Asking(service, forced("one", "the largest of them, the star and the ring and the circle"))
    gate.at_step()
    for _ in range(3):
        gate.step()
    short = Asking(service, forced("two", "a"))
    until(lambda: service.status().waiting == 1)
    gate.step()  # the step that was about to be made
    gate.step()  # reads the prompt of the newcomer
    assert service.status().running == 2
    gate.step()
    (reply,) = short.replies()
    assert reply.text == "a"
    assert service.status().running == 1
    gate.open()
    check_same(
        long.replies(),
        generate(
            model.router,
            model.tokenizer,
            [forced("one", "the largest of them, the star and the ring and the circle")],
        ),
    )


def test_prompts_that_wait_together_are_read_together(service: RouterService, gate: Gate) -> None:
    first = Asking(service, forced("one", "a"))
    gate.at_step()
    others = [Asking(service, forced(f"number {n}", "a")) for n in range(5)]
    until(lambda: service.status().waiting == 5)
    gate.open()
    for one in (first, *others):
        assert one.replies()[0].text == "a"
    # Two prompts' passes, and two for the letter and the end of each.
    assert service.status().steps <= 5


def test_events_of_a_batch_carry_the_place_of_their_request(model: Model, service: RouterService) -> None:
    said = ["a <det>star</det>[DET]", "of them", "<det>ring</det>[SEG], <det>star</det>[DET]"]
    list(service.stream([forced("before", "so that numbers do not begin at none")]))
    events = list(service.stream([forced("x", one) for one in said]))
    for row, one in enumerate(said):
        mine = [event for event in events if event.row == row]
        end = mine[-1]
        assert isinstance(end, Finished)
        assert end.reply.raw == one
        assert "".join(event.text for event in mine if isinstance(event, TextDelta)) == end.reply.text
        assert len([event for event in mine if isinstance(event, LinkReady)]) == len(end.reply.links)
    assert list(service.stream([])) == []


def test_closing_the_stream_stops_its_rows_and_no_others(
    model: Model, service: RouterService, gate: Gate
) -> None:
    other = Asking(service, request("find", tokens=30))
    gate.at_step()
    gate.opened.release(5)
    stream = service.stream([request("go on", tokens=200), request("and on", tokens=200)])
    next(stream)
    stream.close()
    gate.open()
    check_same(other.replies(), generate(model.router, model.tokenizer, [request("find", tokens=30)]))
    assert [one.text for one in replies_of(list(service.stream([forced("x", "a")])))] == ["a"]
    assert service.status().running == 0
    assert service.status().steps < 100


def test_a_bad_conversation_is_refused_and_harms_nobody(service: RouterService, gate: Gate) -> None:
    good = Asking(service, forced("one", "the star"))
    gate.at_step()
    for bad in (
        Request(conversation=()),
        request("word " * 10_000),
        replace(forced("x", "a"), options=GenerateOptions(forced=(10**6,))),
        Request(conversation=(Message(role="user", text="?", prompts=(Point(1, 1),)),)),
    ):
        with pytest.raises(InputError):
            list(service.stream([forced("fine", "a"), bad]))
    assert (service.status().running, service.status().waiting) == (1, 0)
    gate.open()
    assert good.replies()[0].text == "the star"


def test_more_than_may_wait_are_told_so(model: Model, gate: Gate) -> None:
    service = RouterService(model.router, model.tokenizer, max_rows=1, max_waiting=2)
    running = Asking(service, forced("one", "a"))
    gate.at_step()
    waiting = [Asking(service, forced("two", "b")), Asking(service, forced("three", "c"))]
    until(lambda: service.status().waiting == 2)
    with pytest.raises(BusyError, match=r"3 replies .* ask again later"):
        list(service.stream([forced("four", "d")]))
    assert service.status().running == 1
    gate.open()
    assert [one.replies()[0].text for one in (running, *waiting)] == ["a", "b", "c"]
    many = [forced(str(n), "e") for n in range(9)]  # nobody else is there
    assert [one.text for one in replies_of(list(service.stream(many)))] == ["e"] * 9
    service.close()


def test_a_service_that_closes_finishes_what_it_took_and_takes_no_more(model: Model, gate: Gate) -> None:
    service = RouterService(model.router, model.tokenizer)
    running = Asking(service, forced("one", "the star"))
    gate.at_step()
    closing = threading.Thread(target=service.close)
    closing.start()

    def refused() -> bool:
        try:
            service.stream([forced("two", "a")]).close()
            next(service.stream([forced("two", "a", "b")]))
        except LostError:
            return True
        return False

    until(refused)
    gate.open()
    assert running.replies()[0].text == "the star"
    closing.join(LIMIT)
    assert not closing.is_alive()
    with pytest.raises(LostError, match="closed"):
        list(service.stream([forced("three", "a")]))


def test_a_defect_of_a_step_loses_the_running_rows_and_the_others_go_on(
    service: RouterService, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    lost = [Asking(service, forced("one", "the star")), Asking(service, forced("two", "the ring"))]
    gate.at_step()
    until(lambda: sum((service.status().running, service.status().waiting)) == 2)
    while service.status().waiting:
        gate.step()
    gate.step()
    waiting = Asking(service, forced("three", "a"))
    until(lambda: service.status().waiting == 1)
    gate.failing = AssertionError("a defect")
    gate.open()
    for one in lost:
        with pytest.raises(LostError, match="internal error"):
            one.replies()
    assert waiting.replies()[0].text == "a"
    assert Asking(service, forced("four", "b")).replies()[0].text == "b"
    assert "a step of the router failed" in caplog.text
    assert service.status().running == 0


def test_a_prompt_that_cannot_be_read_is_lost_alone(
    model: Model, service: RouterService, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = model.tokenizer.encode("poison")
    embed = model.router.embed

    def failing(batch: Any, **options: Any) -> Any:
        rows = [" ".join(map(str, row)) for row in batch.input_ids.tolist()]
        if any(" ".join(map(str, poison)) in row for row in rows):
            raise RuntimeError("out of memory")
        return embed(batch, **options)

    monkeypatch.setattr(model.router, "embed", failing)
    running = Asking(service, forced("one", "the star"))
    gate.at_step()
    others = [Asking(service, forced(text, text)) for text in ("two", "poison", "three", "four")]
    until(lambda: service.status().waiting == 4)
    gate.open()
    assert running.replies()[0].text == "the star"
    with pytest.raises(LostError):
        others.pop(1).replies()
    assert [one.replies()[0].text for one in others] == ["two", "three", "four"]


@pytest.mark.parametrize("name", ["_deliver", "_take_news"])
def test_a_defect_between_steps_hangs_nobody(
    service: RouterService, gate: Gate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asking = [Asking(service, forced("one", "the star"))]
    gate.at_step()
    asking.append(Asking(service, forced("two", "the ring")))
    until(lambda: service.status().waiting == 1)

    def defect(*_: object) -> bool:
        monkeypatch.undo()
        raise AssertionError("a defect")

    monkeypatch.setattr(service, name, defect)
    gate.open()
    for one in asking:
        with pytest.raises(LostError):
            one.replies()
    assert Asking(service, forced("three", "a")).replies()[0].text == "a"


def test_a_request_says_no_more_after_its_deadline(service: RouterService, gate: Gate) -> None:
    busy = Asking(service, forced("one", "the star"))
    gate.at_step()
    assert list(service.stream([request("two", deadline=0.01)])) == []
    gate.open()
    assert busy.replies()[0].text == "the star"
    until(lambda: service.status().running == 0)


def test_a_second_round_reuses_the_first(model: Model, service: RouterService) -> None:
    first = request("find the star", picture=0)
    (reply,) = replies_of(list(service.stream([first])))
    answer = Message(role="assistant", text=reply.raw)
    second = replace(
        first, conversation=(*first.conversation, answer, Message(role="user", text="and the ring?"))
    )
    found = replies_of(list(service.stream([second])))
    check_same(found, generate(model.router, model.tokenizer, [second]))
    status = service.status()
    assert status.prefix_hits == 1
    assert status.prefix_positions > 4
    assert status.prefix_bytes > 0
    forgetful = RouterService(model.router, model.tokenizer, prefix_bytes=0)
    for one in (first, second):
        list(forgetful.stream([one]))
    assert forgetful.status().prefix_hits == forgetful.status().prefix_bytes == 0
    forgetful.close()


def test_no_mode_of_torch_leaks_to_the_caller(service: RouterService) -> None:
    for _ in service.stream([request("find")]):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_one_system_answers_many_threads_as_it_answers_one_after_the_other(model: Model) -> None:
    said = "Here: <det>red circle</det>[DET], <det>heart</det>[DET], <det>star</det>[SEG]."
    options = replace(GenerateOptions(), forced=reply_ids(said))
    with System(LocalEngine(model), options=options) as system:

        def ask(number: int) -> Any:
            return system.ask(f"Find {number}.", image=scene(30 + number % 3, 40, seed=number))

        with ThreadPoolExecutor(16) as threads:
            together = list(threads.map(ask, range(16), timeout=LIMIT))
        for number, turn in enumerate(together):
            alone = ask(number)
            assert (turn.raw, turn.failures) == (alone.raw, ())
            assert len(turn.artifacts) == 2
            for one, other in zip(turn.artifacts, alone.artifacts, strict=True):
                assert equal(one, other, atol=1e-2)


def test_prompts_are_read_in_small_parts_between_running_rows(
    model: Model, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_service, "MAX_PREFILL", 10)
    service = RouterService(model.router, model.tokenizer)
    widths: list[int] = []
    hook = model.router.language.model.register_forward_pre_hook(
        lambda _, __, inputs: widths.append(max(inputs["packing"].widths)), with_kwargs=True
    )
    first = Asking(service, forced("one", "the star and the ring"))
    gate.at_step()
    long = Asking(service, forced("a long question " * 9, "b"))
    until(lambda: service.status().waiting == 1)
    short = [Asking(service, forced(f"{n}", "c")) for n in range(3)]
    until(lambda: service.status().waiting == 4)
    gate.open()
    for one in (first, long, *short):
        one.replies()
    hook.remove()
    service.close()
    prompts = [number for number, width in enumerate(widths) if width > 1]
    assert widths[prompts[1]] > 10  # longer than a part, so it went alone, and first
    assert max(widths[number] for number in prompts[2:]) <= 10
    assert all(later - earlier == 2 for earlier, later in pairwise(prompts))


def test_a_deadline_beyond_every_clock_is_waited_for(service: RouterService) -> None:
    asked = replace(forced("Hello", "Here they are."), deadline=1e300)
    (reply,) = replies_of(list(service.stream([asked])))
    assert reply.text == "Here they are."


def test_a_request_that_cannot_begin_is_lost_alone(
    service: RouterService, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    running = Asking(service, forced("one", "the star"))
    gate.at_step()
    poison = request("two")
    object.__setattr__(poison.options, "seed", "no number")  # what every check missed
    asking = [Asking(service, one) for one in (poison, forced("three", "a"))]
    until(lambda: service.status().waiting == 2)
    gate.open()
    with pytest.raises(LostError, match="internal error"):
        asking[0].replies()
    assert [one.replies()[0].text for one in (running, asking[1])] == ["the star", "a"]
    assert (service.status().running, service.status().waiting) == (0, 0)
    assert "cannot begin" in caplog.text
