"""Where a turn's time went, for people and for Chrome."""

from __future__ import annotations

import json
from pathlib import Path

import superlink as sl
from superlink.agents.model_folder import Model
from superlink.agents.system import System
from tests.agents.tiny_model import saying, scene

REPLY = "Here: <det>red circle</det>[DET], <det>star</det>[SEG]."


def test_a_turn_is_traced_and_only_inside_the_block(model: Model, tmp_path: Path) -> None:
    with saying(model, REPLY) as system:
        with sl.trace() as trace:
            turn = system.ask("Find.", image=scene())
        spans = trace.spans
        system.ask("Find.", image=scene())
    assert trace.spans == spans
    names = {(span.lane, span.name) for span in spans}
    calls = {("grounding_dino", "grounding_dino.0"), ("grounding_dino", "grounding_dino.1")}
    assert names >= calls | {("router", "writes"), ("router", "link [DET]"), ("router", "link [SEG]")}
    (writing,) = [span for span in spans if span.name == "writes"]
    assert writing.seconds <= turn.timings["router"] + 0.05
    for span in spans:
        if span.lane == "grounding_dino":
            assert 0 < span.details["ran"] <= span.seconds
            assert span.details["waited"] + span.details["ran"] <= span.seconds + 0.05
            assert span.start + span.seconds >= writing.start
    assert len(trace.table().splitlines()) == 1 + len(spans)
    assert max(map(len, trace.table().splitlines())) < 110
    events = json.loads(trace.save(tmp_path / "turn.json").read_text())["traceEvents"]
    lanes = {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M"}
    assert set(lanes) == {"router", "grounding_dino"}
    durations = [event for event in events if event["ph"] == "X"]
    assert {event["tid"] for event in durations} == set(lanes.values())
    assert all(event["dur"] > 0 for event in durations)


def test_a_decoder_that_fails_is_in_the_trace(model: Model) -> None:
    system: System
    with saying(model, REPLY) as system, sl.trace() as trace:
        system.ask("Find.")  # there is no picture, so that no call is even sent
    assert {span.lane for span in trace.spans} == {"router"}


def test_the_local_engine_tells_how_it_is(model: Model) -> None:
    with saying(model, REPLY) as system:
        system.ask("Find.", image=scene())
        (decoder,) = system.status().of("grounding_dino")
    assert (decoder.done, decoder.waiting, decoder.running, decoder.restarts) == (2, 0, 0, 0)
    assert 1 <= decoder.batch_max <= 2
    assert 0 < decoder.p50 <= decoder.p95
