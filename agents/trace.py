"""What a turn spent its time on: the router, its links, and every call to a decoder.

    with sl.trace() as trace:
        system.ask("Find every star.", image="scene.png")
    trace.table()
    trace.save("turn.json")  # for chrome://tracing or https://ui.perfetto.dev

Times are taken where questions are asked, so all engines are traced alike: a call lasts from when it
is sent until its outcome is there, and what it waited is that less the seconds of its forward pass.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from superlink.agents.engine import Engine
from superlink.agents.status import SystemStatus, aligned
from superlink.decoders.contract import Call, DecoderConfig, Failure, Outcome, Result
from superlink.decoders.files import write_whole
from superlink.router.requests import Event, Finished, LinkReady, Request, TextDelta

_current: ContextVar[Trace | None] = ContextVar("superlink_trace", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took a while; with 0 seconds, something that happened."""

    lane: str  # "router", or the name of a decoder
    name: str
    start: float  # seconds from the beginning of the trace
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


class Trace:
    """Spans in the order in which they ended. For many threads."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Earliest first."""
        with self._lock:
            return tuple(sorted(self._spans, key=lambda span: (span.start, -span.seconds)))

    def add(self, lane: str, name: str, start: float, **details: Any) -> None:
        """A span from `start`, on the clock of `time.perf_counter`, until now."""
        self._append(lane, name, start, time.perf_counter() - start, details)

    def mark(self, lane: str, name: str, **details: Any) -> None:
        """Something that happens now."""
        self._append(lane, name, time.perf_counter(), 0.0, details)

    def table(self) -> str:
        """For people: a line a span, earliest first."""
        rows = [("where", "what", "from ms", "ms", "waited ms")]
        for span in self.spans:
            waited = span.details.get("waited")
            rows.append(
                (
                    span.lane,
                    span.name,
                    f"{span.start * 1000:.1f}",
                    f"{span.seconds * 1000:.1f}" if span.seconds else "",
                    "" if waited is None else f"{waited * 1000:.1f}",
                )
            )
        return aligned(rows)

    def to_json(self) -> dict[str, Any]:
        """The trace in Chrome's format: a thread a lane, times in microseconds."""
        spans = self.spans
        lanes = list(dict.fromkeys(span.lane for span in spans))
        events: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": lane}}
            for number, lane in enumerate(lanes)
        ]
        for span in spans:
            event = {
                "name": span.name,
                "ph": "X" if span.seconds else "i",
                "ts": round(span.start * 1e6, 1),
                "pid": 1,
                "tid": lanes.index(span.lane),
                "args": dict(span.details),
            }
            events.append(event | ({"dur": round(span.seconds * 1e6, 1)} if span.seconds else {"s": "t"}))
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace in Chrome's format; the file appears whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        return write_whole(Path(path), json.dumps(self.to_json()).encode() + b"\n")

    def _append(self, lane: str, name: str, start: float, seconds: float, details: Mapping[str, Any]) -> None:
        span = Span(lane=lane, name=name, start=start - self._begun, seconds=seconds, details=details)
        with self._lock:
            self._spans.append(span)


@contextmanager
def trace() -> Iterator[Trace]:
    """Trace what this thread asks inside the block."""
    record = Trace()
    token = _current.set(record)
    try:
        yield record
    finally:
        _current.reset(token)


def traced(engine: Engine) -> Engine:
    """`engine`; inside a `trace` block one that also records what it is asked."""
    record = _current.get()
    return engine if record is None else _Traced(engine, record)


class _Traced:
    def __init__(self, engine: Engine, record: Trace) -> None:
        self._engine, self._record = engine, record

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        return self._engine.decoders

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        start = time.perf_counter()
        silent = True
        try:
            for event in self._engine.stream(requests):
                match event:
                    case TextDelta() if silent:
                        silent = False
                        self._record.mark("router", "first words")
                    case LinkReady():
                        self._record.mark(
                            "router", f"link {event.link.token.text}", phrase=event.link.phrase, row=event.row
                        )
                    case Finished():
                        self._record.mark("router", f"end of reply {event.row}", reason=event.reason)
                    case _:
                        pass
                yield event
        finally:
            self._record.add("router", "writes", start, requests=len(requests))

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        start = time.perf_counter()
        # A future of its own: who waits for it finds the span recorded.
        told: Future[list[Outcome]] = Future()
        future = self._engine.submit(decoder, calls)
        told.add_done_callback(lambda told: future.cancel() if told.cancelled() else None)
        future.add_done_callback(lambda done: self._done(decoder, done, start, told))
        return told

    def status(self) -> SystemStatus:
        return self._engine.status()

    def close(self) -> None:
        self._engine.close()

    def _done(
        self, decoder: str, done: Future[list[Outcome]], start: float, told: Future[list[Outcome]]
    ) -> None:
        if done.cancelled():
            self._record.add(decoder, "cancelled", start)
            told.cancel()
            return
        whole = time.perf_counter() - start
        for outcome in done.result():
            match outcome:
                case Result():
                    waited = max(whole - outcome.seconds, 0.0)
                    self._record.add(decoder, outcome.call_id, start, waited=waited, ran=outcome.seconds)
                case Failure():
                    self._record.add(decoder, outcome.call_id, start, failed=outcome.kind)
        if told.set_running_or_notify_cancel():
            told.set_result(done.result())
