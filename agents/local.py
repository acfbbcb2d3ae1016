"""The engine of one process: a thread for the router, and a worker thread for each decoder."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from superlink.agents.model_folder import Model
from superlink.agents.router_service import RouterService
from superlink.decoders.contract import Call, Decoder, DecoderConfig, Failure, Outcome, Result
from superlink.router.errors import InputError, ModelError, SuperlinkError
from superlink.router.links import LinkBatch
from superlink.router.requests import Event, Request

logger = logging.getLogger(__name__)

MAX_CALLS = 16  # of one forward pass
MAX_WAITING = 1024  # replies: lists that a program asks about at once are longer than those of people

# What a decoder may raise for a call that it cannot answer: the project's own errors, and those
# of torch and numpy on unexpected sizes or when memory runs out. Anything else is a defect here.
_EXPECTED = (SuperlinkError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)


class LocalEngine:
    """Models of this process. Questions of all threads are answered together."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._router = RouterService(model.router, model.tokenizer, max_waiting=MAX_WAITING)
        self._workers = {decoder.config.name: DecoderWorker(decoder) for decoder in model.decoders}

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        return tuple(decoder.config for decoder in self._model.decoders)

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        return self._router.stream(requests)

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        if decoder not in self._workers:
            raise ModelError(
                f"no decoder {decoder!r}; there are {', '.join(sorted(self._workers)) or 'none'}"
            )
        return self._workers[decoder].submit(calls)

    def close(self) -> None:
        self._router.close()
        for worker in self._workers.values():
            worker.close()


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
    """One decoder and its thread. Calls that wait together run together."""

    def __init__(self, decoder: Decoder[Any, Any]) -> None:
        self.decoder = decoder
        self._waiting: list[tuple[Sequence[Call], Future[list[Outcome]]]] = []
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"superlink-{decoder.config.name}")

    def submit(self, calls: Sequence[Call]) -> Future[list[Outcome]]:
        """Run the calls with whatever else waits; after `close` they are lost, and what was said survives."""
        future: Future[list[Outcome]] = Future()
        with self._lock:
            self._waiting.append((tuple(calls), future))
            try:
                self._thread.submit(self._drain).add_done_callback(_report)
            except RuntimeError:  # closed, or the interpreter ends
                self._waiting.pop()
                error = "the engine was closed before the decoder could answer; load the system again"
                future.set_result([Failure(call_id=call.id, error=error, kind="lost") for call in calls])
        return future

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=False)

    def _drain(self) -> None:
        """Run what waits now; a submission that an earlier drain took along finds nothing left."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        taken = [(calls, future) for calls, future in taken if future.set_running_or_notify_cancel()]
        calls = [call for group, _ in taken for call in group]
        outcomes: list[Outcome] = []
        try:
            for start in range(0, len(calls), MAX_CALLS):
                outcomes += answer(self.decoder, calls[start : start + MAX_CALLS])
        finally:
            # Also on a defect: nobody may wait for ever.
            for group, future in taken:
                mine, outcomes = outcomes[: len(group)], outcomes[len(group) :]
                mine += [
                    Failure(call_id=call.id, error="the decoder stopped on an internal error", kind="lost")
                    for call in group[len(mine) :]
                ]
                future.set_result(mine)


def _report(drained: Future[None]) -> None:
    """A defect must not vanish in a thread."""
    if not drained.cancelled() and (error := drained.exception()) is not None:
        logger.error("a decoder's worker failed", exc_info=error)
