"""Where things run: the one seam between sessions and the models.

Sessions, the dispatcher and the command line know only this protocol; whether the models live in
this process or elsewhere is the engine's business.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from superlink.agents.status import SystemStatus
from superlink.decoders.contract import Call, DecoderConfig, Outcome
from superlink.router.requests import Event, Request


class Engine(Protocol):
    """Runs the router and the decoders. Safe to use from many threads."""

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        """The decoders it runs; their routes say which routing token goes where."""

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        """One batched generation; `Event.row` is the index of the request. Closing it stops it.

        It may end without `Finished` for a request whose deadline is over.

        Raises:
            InputError: a conversation cannot be used; nothing was generated.
            BusyError: too many requests wait already; nothing was generated.
            LostError: what writes is gone; what came before stays good.
        """

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        """One outcome a call, in order. A failing call is a `Failure`, never an exception."""

    def status(self) -> SystemStatus:
        """Queues, batches and times right now."""

    def close(self) -> None:
        """Finish what runs, give everything back; the engine cannot be used afterwards."""


class Startable(Protocol):
    """Where a model is to run, before it is known which: `load` takes it as `engine`."""

    def start(self, folder: Path, *, decoders: Sequence[type[DecoderConfig]] = ()) -> Engine:
        """Run the model in `folder`; arguments and errors as for `load`."""
