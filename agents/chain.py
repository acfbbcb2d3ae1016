"""Two decoders, one after the other: the second is asked with what the first one found."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

from superlink.decoders.contract import Call, DecoderConfig, Failure, Outcome, Result
from superlink.router.errors import SuperlinkError


class Submits(Protocol):
    """The part of an engine that the dispatcher needs."""

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]: ...

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]: ...


class Chain:
    """The second of two decoders, started by the first one's answer, in whichever thread gives it."""

    def __init__(
        self, engine: Submits, decoder: str, calls: Sequence[Call], first: Future[list[Outcome]]
    ) -> None:
        self.done: Future[list[Outcome]] = Future()
        self._engine, self._decoder, self._calls = engine, decoder, calls
        self._outcomes: list[Outcome | None] = [None] * len(calls)
        self._current = first
        self.done.add_done_callback(self._stop)
        first.add_done_callback(self._go_on)

    def _stop(self, done: Future[list[Outcome]]) -> None:
        """Who cancels the chain cancels what it waits for."""
        if done.cancelled():
            self._current.cancel()

    def _go_on(self, first: Future[list[Outcome]]) -> None:
        if first.cancelled() or self.done.cancelled():
            self.done.cancel()
            return
        ready: list[tuple[int, Call]] = []
        for place, (call, outcome) in enumerate(zip(self._calls, first.result(), strict=True)):
            if isinstance(outcome, Result):
                ready.append((place, replace(call, inputs=(*call.inputs, outcome.artifact))))
            else:
                self._outcomes[place] = replace(outcome, call_id=call.id)
        places = [place for place, _ in ready]
        if not ready:
            self._finish([], [])
            return
        try:
            second = self._engine.submit(self._decoder, [call for _, call in ready])
        except (SuperlinkError, RuntimeError) as error:  # an engine that was closed meanwhile
            lost = [Failure(call_id=call.id, error=str(error), kind="lost") for _, call in ready]
            self._finish(places, lost)
            return
        self._current = second
        self._stop(self.done)  # it may have been cancelled just now
        second.add_done_callback(lambda found: self._end(places, found))

    def _end(self, places: Sequence[int], second: Future[list[Outcome]]) -> None:
        if second.cancelled():
            self.done.cancel()
            return
        self._finish(places, second.result())

    def _finish(self, places: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        for place, outcome in zip(places, outcomes, strict=True):
            self._outcomes[place] = outcome
        if self.done.set_running_or_notify_cancel():
            self.done.set_result([outcome for outcome in self._outcomes if outcome is not None])
