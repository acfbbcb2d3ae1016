"""The executor: items go through a plan, each step as soon as its own inputs are there.

Whoever finishes a step goes on with what that made ready; further threads come to help only while more
work waits than there are hands. So a chain runs in the caller's thread without any hand-over, and a slow
branch holds nobody up. A thread that waits inside of a step can always do the work of what it waits for, so
runs inside steps cannot lock each other up.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import cache
from typing import Any

from superlink.workflows.graph.asking import Task, ask_all, batch_key
from superlink.workflows.graph.asks import MOST
from superlink.workflows.graph.attempts import performed
from superlink.workflows.graph.context import Context
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.frames import Frame, Item, Ready, filled, inputs_of, opened, started
from superlink.workflows.graph.inputs import Entry, begin
from superlink.workflows.graph.plan import Plan, Planned, PlannedOutput

QUICK_SECONDS = 1e-3
MOST_THREADS = 256  # of all runs of the process; most of them sleep
PATIENCE = 0.5  # seconds between looks whether the run was stopped, where nobody wakes the thread

# Whether this is one of the helpers: what waits there must not wait for other helpers alone.
_helping: ContextVar[bool] = ContextVar("superlink_helping", default=False)


@dataclass(frozen=True, slots=True)
class Made:
    """An output that is there before its item is finished."""

    item: Item
    output: PlannedOutput


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="superlink-workflow")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not come along


class Run:
    """Items on their way through one plan."""

    def __init__(
        self,
        plan: Plan,
        context: Context,
        *,
        window: int = 1,
        inline: bool = True,
        streams: bool = False,
    ) -> None:
        self._plan = plan
        self._context = context
        self._window = window  # items at the same time
        self._inline = inline = inline or _helping.get()  # the caller's thread works too
        self._streams = streams  # report outputs that are not nested as soon as they are there
        if context.hands is None:
            context.hands = threading.Semaphore(context.threads - 1 if inline else context.threads)
        self._hands = context.hands
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._light: deque[Task] = deque()
        self._asks: deque[Task] = deque()
        self._quick: deque[Task] = deque()
        self._ready: deque[Task] = deque()
        self._news: deque[Item | Made] = deque()
        self._asking = 0
        self._helpers = 0
        self._flying = 0
        self._closed = False
        self._defect: BaseException | None = None

    def results(self, entries: Iterator[Entry]) -> Iterator[Item | Made]:
        """Finished items, in the order in which they finish; closing the iterator stops the run.

        Args:
            entries: read only as far as there is room for more items.
        """
        finished = False
        try:
            yield from self._drive(entries)
            finished = True
        finally:
            self._closed = True
            if not finished:
                self._context.stopped.set()

    def _drive(self, entries: Iterator[Entry]) -> Iterator[Item | Made]:
        exhausted = False
        while True:
            while not exhausted and self._flying < self._window:
                entry = next(entries, None)
                if entry is None:
                    exhausted = True
                else:
                    self._enter(entry)
            with self._lock:
                news, tasks = self._next(exhausted)
            if news is not None:
                yield news
            elif tasks is not None:
                self._work(tasks)
            else:
                return

    def _next(self, exhausted: bool) -> tuple[Item | Made | None, list[Task] | None]:
        """What the driving thread does next: report, work, or (None, None) when all is done.

        Raises:
            StepError: the run was stopped from elsewhere.
        """
        while True:
            if self._defect is not None:
                raise self._defect
            if self._news:
                return self._news.popleft(), None
            if not exhausted and self._flying < self._window:
                return None, []
            if self._inline and (tasks := self._take()) is not None:
                return None, tasks
            if exhausted and self._flying == 0:
                return None, None
            if self._context.stopped.is_set():
                raise StepError("", "the run was stopped", kind="cancelled")
            self._changed.wait(PATIENCE)

    def _enter(self, entry: Entry) -> None:
        """Let one item in; what must be read first becomes work like any other."""
        item = Item(self._plan, entry.index, seed=entry.seed, observer=entry.observer)
        values, readings = begin(self._plan, entry)
        ready: Ready = []
        with self._lock:
            self._flying += 1
            started(item.root, values, ready)
            ready.extend((reading, item.root) for reading in readings)
            item.active = len(ready)
            self._push(ready)
            if not ready:
                self._flying -= 1
                self._news.append(item)

    def _push(self, ready: Ready) -> None:
        for task in ready:
            step = task[0].step
            if step.asks is not None:
                self._asks.append(task)
            elif step.light:
                self._light.append(task)
            elif task[0].seconds < QUICK_SECONDS:
                self._quick.append(task)
            else:
                self._ready.append(task)
        if ready and not self._inline:
            self._call_help()

    def _take(self) -> list[Task] | None:
        """Work for the calling thread, questions as one batch; calls for help while more is left."""
        if self._closed or self._context.stopped.is_set():
            return None
        if self._light:
            return [self._light.popleft()]
        tasks: list[Task]
        if self._asks and self._asking < self._context.asks:
            tasks = self._questions()
            self._asking += 1
        elif self._quick or self._ready:
            # What was quick the last time goes first, so that it is not behind what is slow.
            tasks = [(self._quick or self._ready).popleft()]
        else:
            return None
        self._call_help()
        return tasks

    def _questions(self) -> list[Task]:
        key = batch_key(self._asks[0], self._context)
        chosen: list[Task] = []
        left: deque[Task] = deque()
        for task in self._asks:
            fits = len(chosen) < MOST and batch_key(task, self._context) == key
            (chosen if fits else left).append(task)
        self._asks = left
        return chosen

    def _call_help(self) -> None:
        more = self._light or self._quick or self._ready or (self._asks and self._asking < self._context.asks)
        if more and not self._closed and self._hands.acquire(blocking=False):
            self._helpers += 1
            _pool().submit(copy_context().run, self._help)

    def _help(self) -> None:
        """Work until there is none."""
        _helping.set(True)  # in a copy of the caller's context
        done = False
        try:
            while True:
                with self._lock:
                    tasks = self._take()
                    if tasks is None:
                        self._helpers -= 1
                        self._hands.release()
                        done = True
                        return
                self._work(tasks)
        finally:
            if not done:  # a defect, or somebody wants the process to end: the caller must hear of it
                with self._lock:
                    self._helpers -= 1
                    self._hands.release()
                    self._defect = sys.exc_info()[1]
                    self._changed.notify_all()

    def _work(self, tasks: list[Task]) -> None:
        if not tasks:
            return
        if tasks[0][0].step.asks is not None:
            try:
                ask_all(tasks, self._context, self._done)
            finally:
                with self._lock:
                    self._asking -= 1
                    if self._asks:
                        self._changed.notify_all()
                        if not self._inline:
                            self._call_help()
            return
        for planned, frame in tasks:
            values = inputs_of(planned, frame)
            if isinstance(values, StepError):
                self._done(planned, frame, values)
            else:
                start = time.perf_counter()
                value = performed(planned, frame, values, self._context)
                planned.seconds = time.perf_counter() - start
                self._done(planned, frame, value)

    def _done(self, planned: Planned, frame: Frame, value: Any) -> None:
        """Put a value or an error in its place and see what can start now."""
        ready: Ready = []
        item = frame.item
        with self._lock:
            if planned.opened is not None:
                opened(planned, frame, value, ready)
            else:
                filled(frame, planned.slot, value, ready)
            item.active += len(ready) - 1
            if ready:
                self._push(ready)
            if self._streams and frame.parent is None:
                outputs = self._plan.outputs
                made = [one for one in outputs if not one.chain and one.slot == planned.slot]
                self._news.extend(Made(item, one) for one in made)
                if made:
                    self._changed.notify_all()
            if item.active == 0:
                self._flying -= 1
                self._news.append(item)
                self._changed.notify_all()
            elif ready and self._inline and self._helpers:
                self._changed.notify_all()
