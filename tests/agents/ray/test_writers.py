"""Replicas of the router as their client sees them, with actors that write one word."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from superlink.agents.ray.placement import RouterPlacement
from superlink.agents.ray.transport import PictureStore
from superlink.agents.ray.writers import Writers
from superlink.router.errors import BusyError, LostError
from superlink.router.messages import Message
from superlink.router.requests import Request, TextDelta
from tests.agents.ray.conftest import is_gone, wait_until
from tests.agents.ray.fakes import Scribe

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LIMIT = 280.0  # seconds
# First words that belong to the first of two replicas, and to the second.
TEXTS = [next(text for text in "abcdef" if zlib.crc32(text.encode()) % 2 == number) for number in (0, 1)]


class Writing:
    """Two replicas, which do not come back."""

    def __init__(self) -> None:
        kind = ray.remote(Scribe).options(num_cpus=0.1, max_restarts=0)
        self.actors = [kind.remote() for _ in range(2)]
        self.pids = [str(ray.get(actor.ready.remote(), timeout=LIMIT)) for actor in self.actors]
        self.writers = Writers(self.actors, RouterPlacement(replicas=2), store=PictureStore(ray.put))

    def asked(self, text: str, count: int = 1) -> list[str]:
        events = self.writers.stream([asking(text)] * count)
        return [event.text for event in events if isinstance(event, TextDelta)]

    def kill(self, number: int) -> None:
        ray.kill(self.actors[number])
        wait_until(lambda: is_gone(self.actors[number]))


@pytest.fixture
def two(runtime: Path) -> Iterator[Writing]:
    two = Writing()
    yield two
    two.writers.close()
    for actor in two.actors:
        ray.kill(actor)


def asking(text: str) -> Request:
    return Request(conversation=(Message(role="user", text=text),))


def test_words_of_any_kind_and_number_are_taken_where_nobody_else_is(two: Writing) -> None:
    assert [two.asked(text) for text in TEXTS] == [[pid] for pid in two.pids]
    assert two.asked("half of it: \ud83d")
    place = RouterPlacement()
    many = place.max_rows + place.queue + 1
    assert two.asked(TEXTS[0], many) == [two.pids[0]]
    first, second = (two.writers.stream([asking(text)]) for text in TEXTS)
    next(first)
    assert two.asked(TEXTS[0], many) == [two.pids[1]]  # its own has something to do
    next(second)
    with pytest.raises(BusyError, match="ask again later"):
        two.asked(TEXTS[0], many)
    first.close()
    second.close()
    assert two.writers._open == [0, 0]


def test_who_is_up_writes_for_a_replica_that_is_gone(two: Writing) -> None:
    two.kill(0)
    assert two.asked(TEXTS[0]) == [two.pids[1]]  # who asks does not notice
    assert two.writers._open == [0, 0]
    running = two.writers.stream([asking(TEXTS[1])])
    next(running)
    assert two.writers._open == [0, 1]
    assert two.asked(TEXTS[0]) == [two.pids[1]]  # though who is gone has less to do
    running.close()
    two.kill(1)
    for text in TEXTS:
        with pytest.raises(LostError, match="will not be back"):
            two.asked(text)
    assert two.writers._open == [0, 0]
