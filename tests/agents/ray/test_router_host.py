"""The actor around the router, in this process: whatever goes wrong, who waits for events hears of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from superlink.agents.ray.placement import RouterPlacement
from superlink.agents.ray.router_host import RouterHost, _Feed
from superlink.agents.ray.transport import PictureStore, packed_requests
from superlink.router.errors import InputError, LostError
from superlink.router.messages import Message
from superlink.router.requests import Event, GenerateOptions, Request
from tests.agents.tiny_model import reply_ids

LIMIT = 60.0  # seconds

REQUEST = Request(
    conversation=(Message(role="user", text="Find."),), options=GenerateOptions(forced=reply_ids("a"))
)


@pytest.fixture(scope="module")
def host(sleeper_folder: Path) -> RouterHost:
    return RouterHost(sleeper_folder, RouterPlacement(warm_up=False))


def asked(host: RouterHost, request: Request) -> list[Event]:
    parcel, pictures = packed_requests([request], PictureStore(lambda picture: None))

    async def all_events() -> list[Event]:
        return [event async for events in host.stream(parcel, *pictures) for event in events]

    return asyncio.run(asyncio.wait_for(all_events(), LIMIT))


def test_an_error_of_any_kind_ends_the_stream(host: RouterHost) -> None:
    odd: Any = 5
    with pytest.raises(TypeError, match="expected string"):
        asked(host, replace(REQUEST, conversation=(Message(role="user", text=odd),)))
    with pytest.raises(InputError):
        asked(host, replace(REQUEST, conversation=()))
    assert asked(host, REQUEST)


class Private(Exception):
    """Holds what cannot leave its process."""

    def __init__(self, *said: str) -> None:
        super().__init__(*said)
        self.lock = threading.Lock()


class Demanding(Exception):
    """Can be written, and not be read again."""

    def __init__(self, one: str, *, other: str) -> None:
        super().__init__(one)


class Failing(Sequence[Any]):
    """A conversation that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [Private("no\nroom"), Demanding("no room", other="than this")])
def test_an_error_that_no_other_process_can_read_is_sent_as_one_line(
    host: RouterHost, error: Exception
) -> None:
    unreadable: Any = Failing(error)

    async def heard() -> list[Event]:
        feed = _Feed(asyncio.get_running_loop())
        host._write([replace(REQUEST, conversation=unreadable)], feed)
        return await feed.take()

    with pytest.raises(LostError, match=r"^the router failed: no room$"):
        asyncio.run(asyncio.wait_for(heard(), LIMIT))
