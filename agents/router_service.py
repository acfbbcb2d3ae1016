"""One router for many callers: their replies are written together, by one thread.

Requests join between two steps of the router and leave when they are done; nobody waits for a
batch to fill. Callers encode their own pictures and words, in their own threads, so running rows
do not stand still for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue

import torch

from superlink.agents.questions import as_read
from superlink.agents.status import Meter
from superlink.router.encoded import EncodedRequest, RequestEncoder
from superlink.router.errors import BusyError, LostError
from superlink.router.generation import GenerationLoop, StepStates
from superlink.router.model import Router
from superlink.router.prefixes import PREFIX_BYTES, PrefixStore
from superlink.router.requests import Event, Finished, Request
from superlink.router.tokenizer import RouterTokenizer

logger = logging.getLogger(__name__)

MAX_PREFILL = 4096  # positions of prompts in one pass: what running rows wait for at most


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStatus:
    """What a router does now, and what it has done so far."""

    running: int  # rows that are being written
    waiting: int  # rows that have not begun
    steps: int  # forward passes
    tokens: int  # of finished replies, without link queries
    rows_per_step: float  # mean
    prefix_hits: int  # prompts that began as an earlier row did
    prefix_positions: int  # of such prompts that were not computed again
    prefix_bytes: int  # kept for prompts to come


@dataclass(slots=True, eq=False)
class _Submission:
    """The requests of one caller."""

    requests: Sequence[EncodedRequest]
    started: float = field(default_factory=time.monotonic)
    outbox: SimpleQueue[list[Event] | LostError] = field(default_factory=SimpleQueue)
    # Index of every request whose reply is being written, by its row in the loop.
    places: dict[int, int] = field(default_factory=dict)
    left: int = 0  # replies that are not finished


class RouterService:
    """A router that any number of threads may ask at the same time."""

    def __init__(
        self,
        router: Router,
        tokenizer: RouterTokenizer,
        *,
        max_rows: int = 32,
        max_waiting: int = 256,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        """
        Args:
            max_rows: replies that are written at the same time.
            max_waiting: replies that may wait for their turn.
            prefix_bytes: for keys and values of prompts and replies, of which later prompts reuse
                what they have in common with them; 0 keeps none.
        """
        self.meter = Meter()  # of replies that were finished
        self._capacity = max_rows + max_waiting
        self._encoder = RequestEncoder(tokenizer, router.config, content=prefix_bytes > 0)
        self._prefixes = PrefixStore(router, router.config, limit=prefix_bytes)
        self._new_loop = partial(
            GenerationLoop,
            router,
            tokenizer,
            observe=self._count,
            max_rows=max_rows,
            max_prefill=MAX_PREFILL,
            prefixes=self._prefixes,
        )
        self._lock = threading.Lock()
        self._inbox: list[_Submission] = []
        self._given_up: list[_Submission] = []
        self._open: set[_Submission] = set()  # that callers wait for
        self._closed = False
        self._steps = self._rows_stepped = self._tokens = 0
        # What follows belongs to the router's thread.
        self._loop = self._new_loop()
        self._senders: dict[int, _Submission] = {}  # of every row in the loop, by its number
        self._stepping = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="superlink-router")

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        """Answer requests together with those of all other callers; `Event.row` is the index of the request.

        Closing the generator stops them. A request whose `deadline` is over says no more: the
        stream then ends without its `Finished`.

        Raises:
            InputError: one of the conversations cannot be used; nothing was generated.
            BusyError: more replies wait than are allowed; nothing was started.
            LostError: the service is closed, or stopped on an internal error.
        """
        started = time.monotonic()
        # Here, and not where people are asked: what is shown and kept stays as they typed it.
        encoded = self._encoder.encode(
            [replace(request, conversation=as_read(request.conversation)) for request in requests]
        )
        if not encoded:
            return
        deadlines = [request.deadline for request in requests]
        given = [started + deadline for deadline in deadlines if deadline is not None]
        limit = max(given) if len(given) == len(deadlines) else None
        submission = self._submit(encoded)
        left = len(encoded)
        try:
            while left and (events := _next(submission, limit)):
                for event in events:
                    left -= isinstance(event, Finished)
                    yield event
        finally:
            if left:
                with self._lock:  # the router's thread looks here before its next step
                    self._given_up.append(submission)

    def status(self) -> RouterStatus:
        """Counts of this moment."""
        with self._lock:
            queued = sum(len(submission.requests) for submission in self._inbox)
            unfinished = self._unfinished()
            waiting = min(self._loop.waiting + queued, unfinished)
            return RouterStatus(
                running=unfinished - waiting,
                waiting=waiting,
                steps=self._steps,
                tokens=self._tokens,
                rows_per_step=self._rows_stepped / max(self._steps, 1),
                prefix_hits=self._prefixes.hits,
                prefix_positions=self._prefixes.positions,
                prefix_bytes=self._prefixes.nbytes,
            )

    def close(self) -> None:
        """Finish what was taken; nothing new is, callers get a `LostError`."""
        with self._lock:
            self._closed = True
        self._thread.shutdown(wait=True)

    def _submit(self, requests: Sequence[EncodedRequest]) -> _Submission:
        submission = _Submission(requests, left=len(requests))
        with self._lock:
            if self._closed:
                raise LostError("the router was closed; load the system again to ask it")
            unfinished = self._unfinished()
            # More requests in one batch than may wait are taken when nobody else is there.
            if unfinished and unfinished + len(requests) > self._capacity:
                raise BusyError(
                    f"{unfinished} replies are being written or wait, and no more than {self._capacity} may, "
                    f"so {len(requests)} more cannot be taken; ask again later"
                )
            if not self._wake():
                raise LostError("the router is shutting down; nothing more can be asked")
            self._inbox.append(submission)
            self._open.add(submission)
        return submission

    def _unfinished(self) -> int:
        """Replies of all callers; the lock is held."""
        return sum(submission.left for submission in self._open)

    def _wake(self) -> bool:
        """Have the router's thread look for work; False when it takes none any more."""
        try:
            self._thread.submit(self._write).add_done_callback(_report)
        except RuntimeError:  # closed, or the interpreter ends
            return False
        return True

    # The mode is of one thread; here all of the router's work is done.
    @torch.inference_mode()
    def _write(self) -> None:
        """Step until nothing is left; a wake that another one forestalled finds nothing to do."""
        calm = False
        try:
            while self._take_news():
                self._stepping = True
                events = self._loop.step()
                self._stepping = False
                self._deliver(events)
            calm = True
        finally:
            if not calm:
                self._recover()

    def _take_news(self) -> bool:
        """Let new rows in and rows that nobody waits for out; whether any are left."""
        with self._lock:
            inbox, self._inbox = self._inbox, []
            given_up, self._given_up = self._given_up, []
        for submission in inbox:
            try:
                numbers = self._loop.add_rows(submission.requests)
            except Exception:  # whatever it is, only these requests are concerned
                logger.exception("requests that the router cannot begin")
                self._forget(submission)
                submission.outbox.put(_lost())
                continue
            submission.places = {number: place for place, number in enumerate(numbers)}
            self._senders |= dict.fromkeys(numbers, submission)
        for submission in given_up:
            self._forget(submission)
        return len(self._loop) > 0

    def _deliver(self, events: Sequence[Event]) -> None:
        found: dict[_Submission, list[Event]] = {}
        for event in events:
            submission = self._senders[event.row]
            found.setdefault(submission, []).append(replace(event, row=submission.places[event.row]))
            if isinstance(event, Finished):
                self._tokens += len(event.reply.token_ids)
                del self._senders[event.row], submission.places[event.row]
        # Before callers hear of it: one who then asks again must not be told that all is busy.
        with self._lock:
            for submission in found:
                submission.left = len(submission.places)
                if not submission.left:
                    self._open.discard(submission)
                    self.meter.done(time.monotonic() - submission.started, len(submission.requests))
        for submission, own in found.items():
            submission.outbox.put(own)

    def _forget(self, submission: _Submission) -> None:
        """Stop the rows of a caller."""
        numbers, submission.places = list(submission.places), {}
        with self._lock:
            submission.left = 0
            self._open.discard(submission)
        for number in numbers:
            del self._senders[number]
        self._loop.cancel(numbers)

    def _recover(self) -> None:
        """After a defect: the rows of the step that raised are lost, all others go on."""
        recovered = False
        try:
            if self._stepping:
                for submission in {self._senders[number] for number in self._loop.abandon()}:
                    submission.outbox.put(_lost())
                    self._forget(submission)
                recovered = self._wake()
        finally:
            self._stepping = False
            if not recovered:
                self._lose_all()

    def _lose_all(self) -> None:
        with self._lock:
            lost, self._open = self._open, set()
            self._inbox, self._given_up = [], []
        self._senders = {}
        self._loop = self._new_loop()
        for submission in lost:
            submission.left, submission.places = 0, {}
            submission.outbox.put(_lost())

    def _count(self, states: StepStates) -> None:
        self._steps += 1
        self._rows_stepped += len(states.rows)


def _next(submission: _Submission, limit: float | None) -> list[Event]:
    """What has come since the last look; nothing when time is up.

    Raises:
        LostError: nothing more will come.
    """
    # No wait can be longer than the platform's; nobody lives to see the difference.
    patience = None if limit is None else min(max(limit - time.monotonic(), 0.0), threading.TIMEOUT_MAX)
    try:
        found = submission.outbox.get(timeout=patience)
    except Empty:
        return []
    if isinstance(found, LostError):
        raise found
    return found


def _lost() -> LostError:
    return LostError("the router stopped on an internal error, and this reply is lost; ask again")


def _report(written: Future[None]) -> None:
    """A defect must not vanish in a thread."""
    if not written.cancelled() and (error := written.exception()) is not None:
        logger.error("a step of the router failed", exc_info=error)
