"""Replicas of one decoder as their client sees them: what is on its way, who is up, what waits.

A call ends in time whatever happens: with its outcome, as "timeout" when its seconds are over, as
"lost" when its actor is gone. What was on its way to an actor that died is tried once more, since
a decoder's answer follows from the call alone. It may be what killed the actor, so it then runs
with nothing beside it: a call that kills its actor twice harms no other.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    ObjectLostError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)

from superlink.agents.ray.courier import Courier
from superlink.agents.ray.placement import DecoderPlacement
from superlink.agents.ray.transport import PictureStore, check_links, packed_calls, unpacked_outcomes
from superlink.agents.status import WorkerStatus
from superlink.agents.worker import busy
from superlink.decoders.contract import Call, Failure, Outcome
from superlink.router.errors import LostError

logger = logging.getLogger(__name__)

ATTEMPTS = 2
PING_SECONDS = 0.2  # between two questions whether an actor is up again
# What an answer raises that was packed by other versions, or that there is no memory for.
_UNREADABLE = (
    pickle.UnpicklingError,
    ImportError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    EOFError,
    MemoryError,
)
_UNSENDABLE = (TypeError, ValueError, AttributeError, pickle.PicklingError)


@dataclass(slots=True, eq=False)
class _Job:
    """Calls that go to one replica together."""

    calls: tuple[Call, ...]
    deadline: float
    future: Future[list[Outcome]] = field(default_factory=Future)
    attempts: int = 0
    ref: Any = None  # of the answer that is on its way

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        try:
            self.future.set_result(list(outcomes))
        except InvalidStateError:  # its caller has given it up
            return


@dataclass(slots=True, eq=False)
class _Replica:
    number: int
    actor: Any
    up: bool = True
    gone: bool = False  # for good
    restarts: int = 0
    sent: list[_Job] = field(default_factory=list)
    suspects: deque[_Job] = field(default_factory=deque)  # on their way when the actor died: one at a time
    waiting: deque[_Job] = field(default_factory=deque)

    @property
    def jobs(self) -> list[_Job]:
        return [*self.sent, *self.suspects, *self.waiting]

    @property
    def load(self) -> int:
        return sum(len(job.calls) for job in self.jobs)


class Replicas:
    """Sends calls to the replicas of one decoder. For many threads."""

    def __init__(
        self,
        name: str,
        actors: Sequence[Any],
        placement: DecoderPlacement,
        *,
        store: PictureStore,
        courier: Courier,
    ) -> None:
        self.name = name
        self._placement = placement
        self._store = store
        self._courier = courier
        self._replicas = [_Replica(number, actor) for number, actor in enumerate(actors)]
        self._lock = threading.RLock()
        self._sweeping = False
        self._closed = False

    def submit(self, calls: Sequence[Call]) -> Future[list[Outcome]]:
        """One outcome a call, in order.

        Raises:
            LinkError: a link has an autograd graph.
            LostError: closed.
        """
        check_links(calls)  # before there are jobs, which others would wait for
        with self._lock:
            if self._closed:
                raise LostError(f"the engine of {self.name!r} is closed; load the model again")
            shares = self._shares(calls)
            if shares is None:
                future: Future[list[Outcome]] = Future()
                future.set_result(self._refused(calls))
                return future
            deadline = time.monotonic() + self._placement.timeout
            jobs = []
            for replica, places in shares:
                job = _Job(tuple(calls[place] for place in places), deadline)
                job.future.add_done_callback(lambda _, job=job: self._given_up(job))  # type: ignore[misc]
                replica.waiting.append(job)
                jobs.append(job)
            for replica, _ in shares:
                self._pump(replica)
            self._sweep_later()
        if len(jobs) == 1:
            return jobs[0].future
        return _joined(
            [(job.future, places) for job, (_, places) in zip(jobs, shares, strict=True)], len(calls)
        )

    def status(self, seconds: float) -> list[WorkerStatus]:
        """Of every replica, as it says itself where it answers within `seconds`."""
        asked = [(one, one.actor.status.remote()) for one in self._replicas if one.up and not one.gone]
        ready, _ = (
            ray.wait([ref for _, ref in asked], num_returns=len(asked), timeout=seconds)
            if asked
            else ((), ())
        )
        found = {}
        for one, ref in asked:
            if ref in ready:
                try:
                    found[one.number] = ray.get(ref)
                except RayError:
                    continue
        return [
            replace(
                found.get(one.number, WorkerStatus(name=self.name, waiting=one.load)),
                replica=one.number,
                up=one.number in found,
                restarts=one.restarts,
            )
            for one in self._replicas
        ]

    def close(self) -> None:
        """Wait for what is on its way, which the timeout bounds, and take nothing more."""
        with self._lock:
            self._closed = True
            jobs = [job for one in self._replicas for job in one.jobs]
        for job in jobs:
            with suppress(CancelledError):  # its caller may give it up meanwhile
                job.future.exception()

    def _shares(self, calls: Sequence[Call]) -> list[tuple[_Replica, list[int]]] | None:
        """Which calls go where: each to the replica with the least to do; None = no room, or nobody there."""
        there = [one for one in self._replicas if not one.gone]
        there = [one for one in there if one.up] or there
        loads = {one.number: one.load for one in there}
        room = self._placement.queue + self._placement.max_batch
        places: dict[int, list[int]] = {}
        for place in range(len(calls)):
            free = [one for one in there if loads[one.number] < room]
            if not free:
                return None
            least = min(free, key=lambda one: loads[one.number])
            loads[least.number] += 1
            places.setdefault(least.number, []).append(place)
        return [(self._replicas[number], own) for number, own in places.items()]

    def _refused(self, calls: Sequence[Call]) -> list[Outcome]:
        there = [one for one in self._replicas if not one.gone]
        if there:
            return busy(self.name, calls, sum(one.load for one in there))
        return [Failure(call_id=call.id, error=self._gone_error(), kind="lost") for call in calls]

    def _settle(self, job: _Job, outcomes: Sequence[Outcome]) -> None:
        """Without the lock: who hears of it may send the next call, to another decoder."""
        self._courier.post(lambda: job.settle(outcomes))

    def _fail(self, job: _Job, kind: str, error: str) -> None:
        self._settle(job, [Failure(call_id=call.id, error=error, kind=kind) for call in job.calls])

    def _gone_error(self) -> str:
        most = self._placement.max_restarts
        return f"every actor of {self.name!r} is gone after {most} restarts; load the model again"

    def _pump(self, replica: _Replica) -> None:
        """Send what may go now."""
        if not replica.up or replica.gone:
            return
        while replica.suspects and not replica.sent:  # some are not sent: they were given up
            self._send(replica, replica.suspects.popleft())
        # A suspect that runs is the only job there, and stays it.
        if replica.suspects or (replica.sent and replica.sent[0].attempts > 1):
            return
        while replica.waiting:
            self._send(replica, replica.waiting.popleft())

    def _send(self, replica: _Replica, job: _Job) -> None:
        """Whatever goes wrong is a failure of this job: no list has it, and no other job is concerned."""
        if job.future.done():
            return
        try:
            content, rest, pictures = packed_calls(job.calls, self._store)
            job.ref = ref = replica.actor.answer.remote(content, rest, *pictures)
            _when_done(ref, lambda answer: self._courier.post(lambda: self._arrived(replica, job, answer)))
        except _UNSENDABLE as error:  # an option that no other process can be told of
            reason = " ".join(str(error).split())
            self._fail(job, "input", f"the call to {self.name!r} cannot be sent: {reason}")
        except Exception as error:  # a full store, no memory, a runtime that ends
            logger.exception("a call to %r was not sent", self.name)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._fail(job, "lost", f"the call to {self.name!r} could not be sent: {reason}")
        else:
            job.attempts += 1
            replica.sent.append(job)

    def _arrived(self, replica: _Replica, job: _Job, answer: Future[Any]) -> None:
        error = answer.exception()
        outcomes: list[Outcome] | None = None
        unread = ""
        if error is None:
            try:
                outcomes = unpacked_outcomes(answer.result())
            except _UNREADABLE as why:
                unread = " ".join(str(why).split()) or type(why).__name__
        with self._lock:
            if job in replica.sent:
                replica.sent.remove(job)
            if isinstance(error, RayActorError):
                self._down(replica, error)
            elif isinstance(error, ObjectLostError):
                self._store.clear()
            if job.future.done():
                pass
            elif outcomes is not None:
                self._settle(job, outcomes)
            elif error is None:
                same = "do all nodes have the same versions?"
                self._fail(job, "decoder", f"the answer of {self.name!r} cannot be read: {unread}; {same}")
            elif isinstance(error, RayTaskError) and not isinstance(error, TaskCancelledError):
                reason = " ".join(str(error.cause).split()) or type(error.cause).__name__
                self._fail(job, "decoder", f"{self.name!r} failed: {reason}")
            elif isinstance(error, TaskCancelledError):
                self._fail(job, "cancelled", f"the call to {self.name!r} was cancelled")
            else:
                self._try_again(replica, job)
            self._pump(replica)

    def _try_again(self, replica: _Replica, job: _Job) -> None:
        if job.attempts >= ATTEMPTS:
            self._fail(job, "lost", f"the actor of {self.name!r} died on this call, {ATTEMPTS} times")
            return
        there = [one for one in self._replicas if not one.gone]
        if not there:
            self._fail(job, "lost", self._gone_error())
            return
        target = min([one for one in there if one.up] or there, key=lambda one: one.load)
        target.suspects.append(job)
        self._pump(target)

    def _down(self, replica: _Replica, error: RayActorError) -> None:
        """An actor does not answer: ask until it is up again, or gone for good."""
        if isinstance(error, ActorUnavailableError):
            if replica.up:
                replica.up = False
                self._ping(replica)
            return
        if replica.gone:
            return
        replica.up, replica.gone = False, True
        left = [*replica.suspects, *replica.waiting]
        replica.suspects.clear()
        replica.waiting.clear()
        there = [one for one in self._replicas if not one.gone]
        for job in left:
            if there:
                target = min(there, key=lambda one: one.load)
                (target.suspects if job.attempts else target.waiting).append(job)
            else:
                self._fail(job, "lost", self._gone_error())
        for one in there:
            self._pump(one)

    def _ping(self, replica: _Replica) -> None:
        ref = replica.actor.ready.remote()
        _when_done(ref, lambda answer: self._courier.post(lambda: self._pinged(replica, answer)))

    def _pinged(self, replica: _Replica, answer: Future[Any]) -> None:
        error = answer.exception()
        with self._lock:
            if error is None:
                replica.up = True
                replica.restarts += 1
                self._pump(replica)
            elif isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError):
                self._down(replica, error)
            else:
                self._courier.at(time.monotonic() + PING_SECONDS, lambda: self._ping(replica))

    def _given_up(self, job: _Job) -> None:
        """The caller of a job has cancelled it: nobody needs to run it."""
        if job.future.cancelled():
            self._courier.post(lambda: self._drop(job))

    def _drop(self, job: _Job) -> None:
        with self._lock:
            for replica in self._replicas:
                for jobs in (replica.waiting, replica.suspects):
                    if job in jobs:
                        jobs.remove(job)
                if job in replica.sent:
                    ray.cancel(job.ref)

    def _sweep_later(self) -> None:
        """Look again when the next job's time is over."""
        if self._sweeping:
            return
        deadlines = [job.deadline for one in self._replicas for job in one.jobs]
        if deadlines:
            self._sweeping = True
            self._courier.at(min(deadlines), self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._sweeping = False
            for replica in self._replicas:
                for jobs in (replica.sent, replica.suspects, replica.waiting):
                    for job in [job for job in jobs if job.deadline <= now]:
                        jobs.remove(job)
                        self._expire(replica, job)
                self._pump(replica)
            self._sweep_later()

    def _expire(self, replica: _Replica, job: _Job) -> None:
        seconds = self._placement.timeout
        if replica.up:
            self._fail(job, "timeout", f"{self.name!r} did not answer within {seconds:g} s")
        else:
            self._fail(job, "lost", f"the actor of {self.name!r} died and was not back within {seconds:g} s")
        if job.ref is not None:
            ray.cancel(job.ref)


def _when_done(ref: Any, then: Callable[[Future[Any]], None]) -> None:
    ref.future().add_done_callback(then)


def _joined(parts: Sequence[tuple[Future[list[Outcome]], list[int]]], count: int) -> Future[list[Outcome]]:
    """One future for calls that went to several replicas; cancelling it cancels all."""
    whole: Future[list[Outcome]] = Future()
    lock = threading.Lock()
    outcomes: dict[int, Outcome] = {}

    def arrived(part: Future[list[Outcome]], places: list[int]) -> None:
        if part.cancelled():
            whole.cancel()
            return
        with lock:
            outcomes.update(zip(places, part.result(), strict=True))
            complete = len(outcomes) == count
        if complete and whole.set_running_or_notify_cancel():
            whole.set_result([outcomes[place] for place in range(count)])

    def given_up(done: Future[list[Outcome]]) -> None:
        if done.cancelled():
            for part, _ in parts:
                part.cancel()

    whole.add_done_callback(given_up)
    for part, places in parts:
        part.add_done_callback(lambda done, places=places: arrived(done, places))  # type: ignore[misc]
    return whole
