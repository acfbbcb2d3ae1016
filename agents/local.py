"""The engine of one process: the router in the caller's thread, a worker thread for each decoder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future

import torch

from superlink.agents.model_folder import Model
from superlink.agents.status import SystemStatus
from superlink.agents.worker import DecoderWorker
from superlink.decoders.contract import Call, DecoderConfig, Outcome
from superlink.router.errors import ModelError
from superlink.router.generation import stream
from superlink.router.requests import Event, Request


class LocalEngine:
    """Models of this process. Nothing of a generation is shared, so callers need no lock for it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._workers = {decoder.config.name: DecoderWorker(decoder) for decoder in model.decoders}

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        return tuple(decoder.config for decoder in self._model.decoders)

    # As a decorator, the mode is left at every yield; inside the function it would leak to the caller.
    @torch.inference_mode()
    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        yield from stream(self._model.router, self._model.tokenizer, requests)

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        if decoder not in self._workers:
            raise ModelError(
                f"no decoder {decoder!r}; there are {', '.join(sorted(self._workers)) or 'none'}"
            )
        return self._workers[decoder].submit(calls)

    def status(self) -> SystemStatus:
        return SystemStatus(workers=tuple(worker.status() for worker in self._workers.values()))

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
