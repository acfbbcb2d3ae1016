"""Replicas of the router as their client sees them.

A reply that had not begun when its actor died is written anew, once; of one that had, what came
stays with the caller.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from superlink.agents.ray.placement import RouterPlacement
from superlink.agents.ray.transport import Parcel, PictureStore, packed_requests
from superlink.agents.status import WorkerStatus
from superlink.router.errors import BusyError, LostError, SuperlinkError
from superlink.router.requests import Event, Request

PING_SECONDS = 0.2


class Writers:
    """Streams replies from the replicas of the router. For many threads."""

    def __init__(self, actors: Sequence[Any], placement: RouterPlacement, *, store: PictureStore) -> None:
        self._actors = list(actors)
        self._placement = placement
        self._store = store
        self._open = [0] * len(actors)  # requests that each one writes for
        self._restarts = [0] * len(actors)
        self._up = [True] * len(actors)
        self._lock = threading.Lock()
        self._closed = False

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        """Events of one generation; ends early when time is over.

        Raises:
            InputError: a conversation cannot be used.
            BusyError: too many wait already.
            LostError: the router's actor died, after it had begun or twice.
        """
        if not requests:
            return
        limit = self._limit(requests)
        number = self._enter(requests)
        try:
            for attempt in (1, 2):
                begun = False
                try:
                    for event in self._attempt(number, requests, limit):
                        begun = True
                        yield event
                    return
                except RayActorError as error:
                    with self._lock:
                        self._up[number] = False
                    may_wait = not begun and attempt == 1
                    number = self._back(number, len(requests), limit, error, may_wait=may_wait)
        finally:
            with self._lock:
                self._open[number] -= len(requests)

    def status(self, seconds: float) -> list[WorkerStatus]:
        """Of every replica, as it says itself where it answers within `seconds`."""
        refs = [actor.status.remote() for actor in self._actors]
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=seconds)
        found = []
        for number, ref in enumerate(refs):
            own = WorkerStatus(name="router", running=self._open[number], up=False)
            if ref in ready:
                try:
                    own = ray.get(ref)
                except RayError:
                    own = replace(own, up=False)
            found.append(replace(own, replica=number, restarts=self._restarts[number]))
        return found

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._closed = True

    def _limit(self, requests: Sequence[Request]) -> float:
        """When time is over, on the clock of `time.monotonic`."""
        given = [request.deadline for request in requests]
        longest = max(self._placement.timeout if one is None else one for one in given)
        return time.monotonic() + min(longest, self._placement.timeout)

    def _enter(self, requests: Sequence[Request]) -> int:
        """Choose a replica: that of the conversation's first words, which knows them, unless it is full.

        More requests at once than there is room for are taken where nobody else is, as the service does.
        """
        first = requests[0].conversation[0].text if requests[0].conversation else ""
        with self._lock:
            if self._closed:
                raise LostError("the engine of the router is closed; load the model again")
            # A lone surrogate, as half of a split emoji is one, has a hash as well.
            number = zlib.crc32(first.encode(errors="surrogatepass")) % len(self._actors)
            least = self._least()
            crowded = self._open[number] >= self._open[least] + self._placement.max_rows
            if crowded or not self._up[number] or self._is_full(number, len(requests)):
                number = least
            if self._is_full(number, len(requests)):
                raise BusyError(
                    f"the router is busy: {self._open[number]} requests wait for it; ask again later"
                )
            self._open[number] += len(requests)
        return number

    def _least(self) -> int:
        """The replica with the least to write, of those that are up if any is; the lock is held."""
        there = [number for number, up in enumerate(self._up) if up]
        return min(there or range(len(self._up)), key=self._open.__getitem__)

    def _is_full(self, number: int, more: int) -> bool:
        room = self._placement.max_rows + self._placement.queue
        return self._open[number] > 0 and self._open[number] + more > room

    def _attempt(
        self, number: int, requests: Sequence[Request], limit: float
    ) -> Generator[Event, None, None]:
        parcel, pictures = packed_requests(requests, self._store)
        answers = _started(self._actors[number], parcel, pictures)
        finished = False
        try:
            while True:
                # Costs no more than going straight to the next one, and never waits too long.
                ready, _ = ray.wait([answers], timeout=max(limit - time.monotonic(), 0.0))
                if not ready:
                    return
                try:
                    events = ray.get(next(answers))
                except StopIteration:
                    finished = True
                    return
                yield from events
        except RayTaskError as error:
            finished = True
            if isinstance(error.cause, SuperlinkError):
                raise error.cause from None
            raise LostError(f"the router failed: {' '.join(str(error.cause).split())}") from error
        except RayActorError:
            finished = True
            raise
        finally:
            if not finished:  # whoever reads has left, or time is over
                ray.cancel(answers)

    def _back(self, number: int, count: int, limit: float, error: RayActorError, *, may_wait: bool) -> int:
        """Wait until a replica is up again.

        Returns:
            Its number, or that of another one, which the `count` requests are counted for now, where it
            is gone for good.

        Raises:
            LostError: none is, or there is no use in waiting.
        """
        if not may_wait:
            self._watch(number)
            raise LostError("the router's actor died; what it had written is kept") from error
        if self._return(number, limit):
            return number
        if time.monotonic() >= limit:
            self._watch(number)  # else nobody would ask it again as long as others are up
            raise LostError("the router's actor died and was not back in time") from error
        with self._lock:
            other = self._least()
            if self._closed or not self._up[other]:
                raise LostError("the router's actor died and will not be back") from error
            self._open[number] -= count
            self._open[other] += count
        return other

    def _watch(self, number: int) -> None:
        """Notice when a replica is up again, while nobody waits for it."""
        threading.Thread(target=self._return, args=(number,), daemon=True).start()

    def _return(self, number: int, limit: float | None = None) -> bool:
        """Ask until a replica answers; False = it is gone, or the time is over."""
        limit = time.monotonic() + self._placement.start_timeout if limit is None else limit
        while time.monotonic() < limit and not self._closed:
            ref = self._actors[number].ready.remote()
            try:
                ray.get(ref, timeout=max(limit - time.monotonic(), 0.0))
            except ActorUnavailableError:
                time.sleep(PING_SECONDS)
            except RayError:
                return False
            else:
                with self._lock:
                    self._restarts[number] += not self._up[number]
                    self._up[number] = True
                return True
        return False


def _started(actor: Any, parcel: Parcel, pictures: Sequence[Any]) -> Any:
    return actor.stream.options(num_returns="streaming").remote(parcel, *pictures)
