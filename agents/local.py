"""The engine of one process: a thread for the router, and a worker thread for each decoder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future

from superlink.agents.model_folder import Model
from superlink.agents.router_service import RouterService
from superlink.agents.status import SystemStatus, router_status
from superlink.agents.worker import DecoderWorker
from superlink.decoders.contract import Call, DecoderConfig, Outcome
from superlink.router.errors import ModelError
from superlink.router.requests import Event, Request

MAX_WAITING = 1024  # replies: lists that a program asks about at once are longer than those of people


class LocalEngine:
    """Models of this process. Questions of all threads are answered together."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._router = RouterService(model.router, model.tokenizer, max_waiting=MAX_WAITING)
        self._workers = {decoder.config.name: DecoderWorker(decoder) for decoder in model.decoders}

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        return tuple(decoder.config for decoder in self.model.decoders)

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        return self._router.stream(requests)

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        if decoder not in self._workers:
            raise ModelError(
                f"no decoder {decoder!r}; there are {', '.join(sorted(self._workers)) or 'none'}"
            )
        return self._workers[decoder].submit(calls)

    def status(self) -> SystemStatus:
        decoders = (worker.status() for worker in self._workers.values())
        return SystemStatus(workers=(router_status(self._router.status(), self._router.meter), *decoders))

    def close(self) -> None:
        self._router.close()
        for worker in self._workers.values():
            worker.close()
