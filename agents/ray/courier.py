"""The courier: one thread that brings answers home and watches the clock.

Ray tells of an answer in a thread of its own that must not be kept, least of all by somebody who
sends the next call from it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

Task = Callable[[], None]


class Courier:
    """Runs tasks one after the other, some of them at a given time. For many threads."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[float, Task] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="superlink-courier", daemon=True)
        self._thread.start()

    def post(self, task: Task) -> None:
        """Run `task` soon."""
        self._tasks.put((0.0, task))

    def at(self, when: float, task: Task) -> None:
        """Run `task` at a time on the clock of `time.monotonic`."""
        self._tasks.put((when, task))

    def close(self) -> None:
        """Finish what was posted; what was to come later is dropped."""
        self._tasks.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        later: list[tuple[float, int, Task]] = []
        numbers = itertools.count()  # tasks of one time keep their order
        while True:
            patience = max(later[0][0] - time.monotonic(), 0.0) if later else None
            try:
                item = self._tasks.get(timeout=patience)
            except queue.Empty:
                _, _, task = heapq.heappop(later)
                _done(task)
                continue
            if item is None:
                return
            when, task = item
            if when > time.monotonic():
                heapq.heappush(later, (when, next(numbers), task))
            else:
                _done(task)


def _done(task: Task) -> None:
    """A task that fails must not take the others with it."""
    try:
        task()
    except Exception:  # whatever it is, it is told, and the thread must live on
        logger.exception("a task of the courier failed")
