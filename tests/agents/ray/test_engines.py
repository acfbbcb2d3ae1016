"""One body of tests for every engine: this process, Ray, and the plainest one that keeps the protocol."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from superlink.agents.engine import Engine
from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model, load_model, save_model
from superlink.agents.ray.engine import RayEngine
from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement
from superlink.agents.status import SystemStatus, WorkerStatus
from superlink.agents.system import System
from superlink.agents.turn import Turn
from superlink.agents.worker import answer
from superlink.decoders.artifacts import Boxes, Masks, Picture, equal
from superlink.decoders.contract import Call, DecoderConfig, Outcome, Result
from superlink.router.errors import InputError, ModelError
from superlink.router.generation import stream
from superlink.router.links import Reply
from superlink.router.messages import Message, Point
from superlink.router.model import Router
from superlink.router.requests import Event, Finished, GenerateOptions, Request
from tests.agents.tiny_family import configs
from tests.agents.tiny_model import reply_ids, router_config, scene, tokenizer

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

# Everything at once: boxes, masks built on boxes, a picture.
REPLY = (
    "Here: <det>red circle</det>[DET], <det>heart</det>[DET], <det>star</det>[SEG], <det>a cat</det>[GEN]."
)
PROMPTED = "It is <det>region1</det>[SEG]."


class PlainEngine:
    """One thing after the other, in the caller's thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        return tuple(decoder.config for decoder in self._model.decoders)

    @torch.inference_mode()
    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        yield from stream(self._model.router, self._model.tokenizer, requests)

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        found = [one for one in self._model.decoders if one.config.name == decoder]
        if not found:
            raise ModelError(f"no decoder {decoder!r}; there are {self.decoders[0].name}")
        future: Future[list[Outcome]] = Future()
        with self._lock:
            future.set_result(answer(found[0], calls) if calls else [])
        return future

    def status(self) -> SystemStatus:
        return SystemStatus(workers=tuple(WorkerStatus(name=one.name) for one in self.decoders))

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    chosen = [config for config in configs() if config.name not in ("unipose", "instruct_pix2pix")]
    tokens = tuple(route.token for config in chosen for route in config.routes)
    router = Router(replace(router_config(tokenizer()), tokens=tokens)).eval()
    decoders = tuple(config.build(router.config.width).eval() for config in chosen)
    folder = tmp_path_factory.mktemp("family")
    save_model(folder, Model(name="family", router=router, tokenizer=tokenizer(), decoders=decoders))
    return folder


@pytest.fixture(scope="module", params=["local", "plain", "ray"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    if request.param == "ray":
        request.getfixturevalue("runtime")
        place = Placement(
            router=RouterPlacement(num_cpus=0.1, start_timeout=280.0),
            decoder=DecoderPlacement(num_cpus=0.1, start_timeout=280.0),
        )
        engine: Engine = RayEngine(placement=place).start(folder)
    else:
        engine = (LocalEngine if request.param == "local" else PlainEngine)(load_model(folder))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(folder: Path) -> PlainEngine:
    return PlainEngine(load_model(folder))


def asked(engine: Engine, reply: str = REPLY, **said: object) -> Turn:
    system = System(engine, options=GenerateOptions(forced=reply_ids(reply)))
    return system.ask("Do it.", image=scene(seed=3), **said)  # type: ignore[call-overload,no-any-return]


def written(engine: Engine, *replies: str) -> list[Reply]:
    """What the router writes about one picture, all in one batch."""
    requests = [
        Request(
            conversation=(Message(role="user", text="Find.", images=(scene(seed=9),)),),
            options=GenerateOptions(forced=reply_ids(reply)),
        )
        for reply in replies
    ]
    found = {one.row: one.reply for one in engine.stream(requests) if isinstance(one, Finished)}
    return [found[row] for row in range(len(replies))]


def assert_alike(turn: Turn, other: Turn) -> None:
    """Text, failures, and what was found by whom; numbers depend on what else was in a forward pass."""
    assert (turn.text, turn.raw) == (other.text, other.raw)
    ends = [[(one.call_id, one.kind, one.error) for one in each.failures] for each in (turn, other)]
    assert ends[0] == ends[1]
    assert [type(one) for one in turn.artifacts] == [type(one) for one in other.artifacts]
    for one, two in zip(turn.artifacts, other.artifacts, strict=True):
        assert one.origin == two.origin
        if isinstance(one, Boxes | Masks) and isinstance(two, Boxes | Masks):
            assert one.names == two.names
            assert np.allclose(one.scores[:1], two.scores[:1], atol=1e-3)
        if isinstance(one, Picture) and isinstance(two, Picture):
            assert np.abs(one.pixels.astype(int) - two.pixels.astype(int)).max() <= 2


def test_decoders_answer_bit_for_bit(engine: Engine, reference: PlainEngine) -> None:
    (reply,) = written(reference, REPLY)
    image, boxes = scene(seed=9), asked(reference).boxes
    for config in engine.decoders:
        for route in config.routes:
            links = [link for link in reply.links if link.token == route.token]
            calls = [
                Call(
                    id=f"{config.name}.0",
                    links=tuple(link.detached() for link in links),
                    image=image if config.needs_image else None,
                    inputs=(boxes,) if route.after else (),
                    seed=seed,
                )
                for seed in (1, 2)
                if links
            ]
            for call in calls:  # one after the other, so that no batch differs
                (outcome,), (expected,) = (
                    one.submit(config.name, [call]).result(200) for one in (engine, reference)
                )
                assert isinstance(outcome, Result), outcome
                assert isinstance(expected, Result), expected
                assert equal(outcome.artifact, expected.artifact), config.name


def test_replies_and_links_are_the_same(engine: Engine, reference: PlainEngine) -> None:
    replies = (REPLY, PROMPTED, "Nothing here.")
    for own, wanted in zip(written(engine, *replies), written(reference, *replies), strict=True):
        assert (own.text, own.raw, own.token_ids) == (wanted.text, wanted.raw, wanted.token_ids)
        assert [link.phrase for link in own.links] == [link.phrase for link in wanted.links]
        for one, two in zip(own.links, wanted.links, strict=True):
            assert torch.allclose(one.embeddings, two.embeddings, atol=1e-5)


def test_every_kind_of_artifact_comes_and_the_seed_arrives(engine: Engine, reference: PlainEngine) -> None:
    turn = asked(engine, seed=7)
    assert len(turn.artifacts) == 3
    assert_alike(turn, asked(reference, seed=7))
    made, other = turn.picture, asked(engine, seed=8).picture
    assert isinstance(made, Picture)
    assert isinstance(other, Picture)
    assert not equal(made, other)


def test_prompts_options_and_thresholds_arrive(engine: Engine, reference: PlainEngine) -> None:
    for said in (
        {"prompts": [Point(20, 20)], "reply": PROMPTED},
        {"threshold": 0.9},
        {"options": {"stable_diffusion": {"steps": 1}}},
        {"options": {"stable_diffusion": {"steps": -1}}},
    ):
        reply = str(said.pop("reply", REPLY))
        assert_alike(asked(engine, reply, **said), asked(reference, reply, **said))


def test_rounds_build_on_each_other(engine: Engine, reference: PlainEngine) -> None:
    turns = []
    for one in (engine, reference):
        session = System(one, options=GenerateOptions(forced=reply_ids(REPLY))).session()
        first = session.ask("Find.", image=scene(seed=4))
        turns.append((first, session.ask("And these?", refs=[first.boxes]), session.ask("Again.")))
    for turn, other in zip(*turns, strict=True):
        assert [type(one) for one in turn.artifacts] == [type(one) for one in other.artifacts]
        assert (turn.text, turn.round, turn.failures) == (other.text, other.round, other.failures)


def test_a_list_is_answered_in_order_and_a_bad_item_spares_the_others(
    engine: Engine, reference: PlainEngine
) -> None:
    answers = []
    for one in (engine, reference):
        system = System(one, options=GenerateOptions(forced=reply_ids(REPLY)))
        answers.append(system.ask("Find.", image=[scene(seed=5), b"no picture", scene(50, 40, seed=6)]))
    assert ["picture" in turn.error for turn in answers[0]] == [False, True, False]
    for place in (0, 2):
        assert_alike(answers[0][place], answers[1][place])


def test_many_threads_get_their_own_answers(engine: Engine, reference: PlainEngine) -> None:
    reply = "It is <det>red circle</det>[DET]."

    def ask(one: Engine, seed: int) -> Turn:
        system = System(one, options=GenerateOptions(forced=reply_ids(reply)))
        return system.ask("Find.", image=scene(seed=seed))

    with ThreadPoolExecutor(4) as threads:
        turns = list(threads.map(lambda seed: ask(engine, seed), range(6)))
    for seed, turn in enumerate(turns):
        expected = ask(reference, seed)
        assert turn.text == expected.text
        assert equal(turn.boxes, expected.boxes, atol=1e-3)  # of another batch


def test_events_come_as_they_are_written(engine: Engine, reference: PlainEngine) -> None:
    request = Request(
        conversation=(Message(role="user", text="Find."),), options=GenerateOptions(forced=reply_ids(REPLY))
    )
    events, expected = list(engine.stream([request, request])), list(reference.stream([request, request]))
    for row in (0, 1):
        own = [event for event in events if event.row == row]
        wanted = [event for event in expected if event.row == row]
        assert [type(event) for event in own] == [type(event) for event in wanted]


def test_errors_are_the_callers_own(engine: Engine) -> None:
    options = GenerateOptions(forced=(10**6,))
    request = Request(conversation=(Message(role="user", text="Find."),), options=options)
    with pytest.raises(InputError, match="forced ids"):
        list(engine.stream([request]))
    with pytest.raises(ModelError, match="no decoder 'nobody'; there are "):
        engine.submit("nobody", [])


def test_status_knows_every_decoder(engine: Engine) -> None:
    status = engine.status()
    assert {one.name for one in status.workers} >= {config.name for config in engine.decoders}
    assert all(one.up for one in status.workers)
    assert len(status.table().splitlines()) == 1 + len(status.workers)
