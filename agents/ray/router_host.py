"""The actor around the router: writes for many sessions at once and sends events as they come.

Ray only counts what it does; the engine makes an actor of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from superlink.agents.model_folder import load_writer
from superlink.agents.ray.metrics import ActorMetrics
from superlink.agents.ray.placement import RouterPlacement
from superlink.agents.ray.transport import Parcel, Pixels, unpacked_requests
from superlink.agents.router_service import RouterService
from superlink.agents.status import WorkerStatus, router_status
from superlink.router.errors import LostError, SuperlinkError
from superlink.router.messages import Message
from superlink.router.requests import Event, GenerateOptions, LinkReady, Request

logger = logging.getLogger(__name__)


class RouterHost:
    """One router. Its methods are those of an asynchronous actor."""

    def __init__(self, folder: Path, placement: RouterPlacement) -> None:
        torch.set_num_threads(placement.threads)
        router, tokenizer = load_writer(folder, device=placement.device)
        self._service = RouterService(
            router,
            tokenizer,
            max_rows=placement.max_rows,
            max_waiting=placement.queue,
            prefix_bytes=placement.prefix_bytes,
        )
        self._metrics = ActorMetrics("router")
        if placement.warm_up:
            greeting = Request(
                conversation=(Message(role="user", text="Hello."),), options=GenerateOptions(max_new_tokens=1)
            )
            for _ in self._service.stream([greeting]):
                pass
        gc.freeze()  # modules and weights stay: no collection needs to look at them again

    def __repr__(self) -> str:
        """What Ray calls the actor in its logs."""
        return "Router"

    async def ready(self) -> int:
        """Answers once the router is loaded; the id of this process."""
        return os.getpid()

    async def stream(self, parcel: Parcel, *pictures: Pixels) -> AsyncGenerator[list[Event], None]:
        """Events of one generation, those that came meanwhile together. Cancelling it stops it.

        Raises:
            InputError, BusyError, LostError: as the service does.
        """
        requests = unpacked_requests(parcel, pictures)
        loop = asyncio.get_running_loop()
        start = loop.time()
        feed = _Feed(loop)
        threading.Thread(target=self._write, args=(requests, feed), daemon=True).start()
        try:
            while events := await feed.take():
                yield events
            seconds, waiting = loop.time() - start, self._service.status().waiting
            self._metrics.done(seconds, count=len(requests), waiting=waiting)
        finally:
            feed.abandoned = True

    async def status(self) -> WorkerStatus:
        return router_status(self._service.status(), self._service.meter)

    def _write(self, requests: Sequence[Request], feed: _Feed) -> None:
        try:
            with closing(self._service.stream(requests)) as events:
                for event in events:
                    if feed.abandoned:
                        return
                    feed.put(
                        replace(event, link=event.link.detached()) if isinstance(event, LinkReady) else event
                    )
        except Exception as error:  # else nobody would ever tell who waits for the feed's end
            if not isinstance(error, SuperlinkError):
                logger.exception("a reply of the router failed")
            feed.end(_sendable(error))
        else:
            feed.end(None)


def _sendable(error: Exception) -> Exception:
    """`error`, or in its place a line about it where another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # what an error holds may be of any class, and raise anything
        logger.exception("an error that cannot be sent")
        reason = " ".join(str(error).split()) or type(error).__name__
        return LostError(f"the router failed: {reason}")
    return error


class _Feed:
    """Events from the thread that writes to the coroutine that sends them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.abandoned = False
        self._loop = loop
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._loop.call_soon_threadsafe(self._changed.set)

    def end(self, error: Exception | None) -> None:
        self._error, self._ended = error, True
        self._loop.call_soon_threadsafe(self._changed.set)

    async def take(self) -> list[Event]:
        """What came since the last time; nothing = that was all."""
        while True:
            ended = self._ended  # before looking: what was put before the end is there then
            taken = []
            while self._events:
                taken.append(self._events.popleft())
            if taken or (ended and self._error is None):
                return taken
            if ended and self._error is not None:
                raise self._error
            await self._changed.wait()
            self._changed.clear()
