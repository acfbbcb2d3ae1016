"""Where questions to the system meet: those of one kind that wait at the same time are asked as one batch.

Steps inside branches and loops run apart from each other, each in a run of its own; here their questions
come together again. Whoever gets to ask takes along what waits behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from superlink.workflows.graph.asks import MOST, AskRequest
from superlink.workflows.graph.errors import StepError

if TYPE_CHECKING:
    from superlink.agents.turn import Turn

Ask = Callable[[Sequence[AskRequest]], "list[Turn] | StepError"]


@dataclass(slots=True, eq=False)
class _Waiting:
    """Requests of one step, until somebody has asked them."""

    key: Hashable
    requests: Sequence[AskRequest]
    # None: whoever took them along could not ask, so they are asked again by themselves.
    answer: Future[list[Turn] | None] = field(default_factory=Future)


class AskDesk:
    """Shared by all runs that are part of one call.

    Args:
        most: batches that are asked at the same time.
    """

    def __init__(self, most: int) -> None:
        self._gate = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def ask(self, key: Hashable, requests: Sequence[AskRequest], ask: Ask) -> list[Turn] | StepError:
        """A turn for every request, or why there are none.

        Args:
            key: requests with equal keys can go together, and `ask` is the same for them.
            requests: at most `MOST`.
            ask: asks a batch.
        """
        mine = _Waiting(key, requests)
        with self._lock:
            self._waiting.append(mine)
        with self._gate:
            if not mine.answer.done():
                return self._together(mine, ask)
        turns = mine.answer.result()
        if turns is not None:
            return turns
        with self._gate:
            return ask(requests)

    def _together(self, mine: _Waiting, ask: Ask) -> list[Turn] | StepError:
        """Ask, with what waits behind; where that fails as a whole, everybody asks alone."""
        others = self._taken_along(mine)
        try:
            turns = ask([request for one in (mine, *others) for request in one.requests])
            if not others:
                return turns
            if isinstance(turns, StepError):
                return turns if turns.kind == "timeout" else ask(mine.requests)
            rest = turns[len(mine.requests) :]
            for one in others:
                one.answer.set_result(rest[: len(one.requests)])
                rest = rest[len(one.requests) :]
            return turns[: len(mine.requests)]
        finally:
            for one in others:
                if not one.answer.done():
                    one.answer.set_result(None)

    def _taken_along(self, mine: _Waiting) -> list[_Waiting]:
        count, taken, left = len(mine.requests), [], []
        with self._lock:
            for one in self._waiting:
                if one.key == mine.key and one is not mine and count + len(one.requests) <= MOST:
                    count += len(one.requests)
                    taken.append(one)
                elif one is not mine:
                    left.append(one)
            self._waiting = left
        return taken
