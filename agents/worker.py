"""A decoder's worker: its queue, its thread, and what becomes of a call that fails.

Knows no router and no other decoder, so that a process around one decoder starts fast.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from superlink.agents.status import Meter, WorkerStatus
from superlink.decoders.contract import Call, Decoder, Failure, Outcome, Result
from superlink.router.errors import InputError, SuperlinkError
from superlink.router.links import LinkBatch

logger = logging.getLogger(__name__)

MAX_CALLS = 16  # of one forward pass

# What a decoder may raise for a call that it cannot answer: the project's own errors, and those
# of torch and numpy on unexpected sizes or when memory runs out. Anything else is a defect here.
_EXPECTED = (SuperlinkError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)


def answer(decoder: Decoder[Any, Any], calls: Sequence[Call]) -> list[Outcome]:
    """One forward pass for all calls; when it fails, each call alone.

    A call that cannot be answered becomes a `Failure`; its neighbours keep their results.
    """
    try:
        return _forward(decoder, calls)
    except _EXPECTED as error:
        if len(calls) > 1:
            return [outcome for call in calls for outcome in answer(decoder, [call])]
        kind = "input" if isinstance(error, InputError) else "decoder"
        message = " ".join(str(error).split()) or type(error).__name__
        return [Failure(call_id=calls[0].id, error=message, kind=kind)]


def _closed(calls: Sequence[Call]) -> list[Outcome]:
    error = "the engine was closed before the decoder could answer; load the system again"
    return [Failure(call_id=call.id, error=error, kind="lost") for call in calls]


def _forward(decoder: Decoder[Any, Any], calls: Sequence[Call]) -> list[Outcome]:
    start = time.perf_counter()
    with torch.inference_mode():
        inputs = decoder.prepare(calls)
        device = next(decoder.parameters()).device
        links = LinkBatch.of([call.links for call in calls])
        outputs = decoder(
            LinkBatch(embeddings=links.embeddings.to(device), mask=links.mask.to(device)), inputs
        )
        artifacts = decoder.postprocess(outputs, inputs)
    if len(artifacts) != len(calls):
        raise RuntimeError(f"{decoder.config.name!r} gave {len(artifacts)} artifacts for {len(calls)} calls")
    seconds = time.perf_counter() - start
    return [
        Result(call_id=call.id, artifact=artifact, seconds=seconds)
        for call, artifact in zip(calls, artifacts, strict=True)
    ]


class DecoderWorker:
    """One decoder and its thread. Calls that wait together run together.

    A lone call starts at once; while a forward pass runs, others gather for the next one.
    """

    def __init__(
        self, decoder: Decoder[Any, Any], *, max_calls: int = MAX_CALLS, max_waiting: int | None = None
    ) -> None:
        self.decoder = decoder
        self.running_since: float | None = None  # on the clock of `time.monotonic`
        self.last_batch = 0  # calls of the newest forward pass
        self._max_calls = max_calls
        self._max_waiting = max_waiting
        self._waiting: deque[_Submission] = deque()
        self._running = 0
        self._lock = threading.Lock()
        self._meter = Meter()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"superlink-{decoder.config.name}")

    def submit(self, calls: Sequence[Call]) -> Future[list[Outcome]]:
        """Outcomes of the calls, in order; "busy" failures where too many calls wait already.

        After `close` calls are lost, and what was said survives.
        """
        one = _Submission(tuple(calls))
        drained: Future[None] | None = None
        refused: list[Outcome] = []
        with self._lock:
            waiting = sum(len(other.calls) for other in self._waiting)
            if self._max_waiting is not None and waiting + len(calls) > self._max_waiting:
                refused = busy(self.decoder.config.name, calls, waiting)
            else:
                try:
                    drained = self._thread.submit(self._drain)
                except RuntimeError:  # closed, or the interpreter ends
                    refused = _closed(calls)
                else:
                    self._waiting.append(one)
        if drained is None:
            one.future.set_result(refused)
        else:
            drained.add_done_callback(_report)
        return one.future

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        with self._lock:
            return sum(len(one.calls) for one in self._waiting)

    def status(self) -> WorkerStatus:
        return self._meter.read(self.decoder.config.name, waiting=self.waiting, running=self._running)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=False)

    def _drain(self) -> None:
        """Run what waits now and fits into one forward pass.

        Every submission comes with a drain of its own; one that an earlier drain took along finds
        nothing left, and what did not fit is run by a later one.
        """
        taken: list[_Submission] = []
        with self._lock:
            count = 0
            while self._waiting and (not taken or count + len(self._waiting[0].calls) <= self._max_calls):
                one = self._waiting.popleft()
                if one.future.set_running_or_notify_cancel():
                    taken.append(one)
                    count += len(one.calls)
            self._running = count
            self.running_since = time.monotonic()
        calls = [call for one in taken for call in one.calls]
        outcomes: list[Outcome] = []
        try:
            for start in range(0, len(calls), self._max_calls):
                batch = calls[start : start + self._max_calls]
                self._meter.batch(len(batch))
                self.last_batch = len(batch)
                self.running_since = time.monotonic()
                outcomes += answer(self.decoder, batch)
        finally:
            # Also on a defect: nobody may wait for ever.
            with self._lock:
                self._running, self.running_since = 0, None
            for one in taken:
                mine, outcomes = outcomes[: len(one.calls)], outcomes[len(one.calls) :]
                mine += [
                    Failure(call_id=call.id, error="the decoder stopped on an internal error", kind="lost")
                    for call in one.calls[len(mine) :]
                ]
                self._meter.done(time.monotonic() - one.since, len(one.calls))
                one.future.set_result(mine)


@dataclass(slots=True, eq=False)
class _Submission:
    calls: tuple[Call, ...]
    future: Future[list[Outcome]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


def busy(decoder: str, calls: Sequence[Call], waiting: int) -> list[Outcome]:
    """What calls get where too many wait already."""
    error = f"{decoder!r} is busy: {waiting} calls wait for it; ask again later"
    return [Failure(call_id=call.id, error=error, kind="busy") for call in calls]


def _report(drained: Future[None]) -> None:
    """A defect must not vanish in a thread."""
    if not drained.cancelled() and (error := drained.exception()) is not None:
        logger.error("a decoder's worker failed", exc_info=error)
