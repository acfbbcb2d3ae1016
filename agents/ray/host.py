"""The actor around a decoder, whichever it is: loads it, keeps its queue and runs it in batches.

Ray only counts what it does; the engine makes an actor of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from superlink.agents.decoder_folder import decoder_folder, load_decoder
from superlink.agents.ray.metrics import ActorMetrics
from superlink.agents.ray.placement import DecoderPlacement
from superlink.agents.ray.transport import Pixels, Rest, packed_outcomes, unpacked_calls
from superlink.agents.status import WorkerStatus
from superlink.agents.worker import DecoderWorker, answer
from superlink.decoders.contract import Call, Decoder, DecoderConfig, Outcome
from superlink.router.links import SuperLink

logger = logging.getLogger(__name__)

COUNTED_LATER = 0.002  # seconds after an answer


class Host:
    """One decoder, and what waits for it. Its methods are those of an asynchronous actor."""

    def __init__(
        self,
        folder: Path,
        config: DecoderConfig,
        width: int,
        placement: DecoderPlacement,
    ) -> None:
        """
        Args:
            folder: of the model.
            config: of one of its decoders.
            width: of the router's links.
            placement: of this decoder.
        """
        self._name = config.name  # first: Ray asks for the repr even of an actor that fails below
        torch.set_num_threads(placement.threads)
        place = decoder_folder(folder, config.name)
        decoder = load_decoder(place, config, width, device=placement.device)
        if placement.warm_up:
            warm_up(decoder)
        self._metrics = ActorMetrics(config.name)
        self._worker = DecoderWorker(decoder, max_calls=placement.max_batch, max_waiting=placement.queue)
        watch(self._worker, placement.timeout)
        gc.freeze()  # modules and weights stay: no collection needs to look at them again

    def __repr__(self) -> str:
        """What Ray calls the actor in its logs."""
        return f"Host({self._name})"

    async def ready(self) -> int:
        """Answers once the decoder is loaded; the id of this process."""
        return os.getpid()

    async def answer(self, content: bytes, rest: Rest | None, *pictures: Pixels) -> bytes | list[Outcome]:
        """One outcome a call. Calls of all clients that wait together run together."""
        start = time.monotonic()
        calls = unpacked_calls(content, rest, pictures)
        outcomes = await asyncio.wrap_future(self._worker.submit(calls))
        packed = packed_outcomes(outcomes)
        seconds, waiting, batch = time.monotonic() - start, self._worker.waiting, self._worker.last_batch

        def count() -> None:
            self._metrics.done(seconds, count=len(outcomes), waiting=waiting, batch=batch)
            self._metrics.failed(outcomes)

        asyncio.get_running_loop().call_later(COUNTED_LATER, count)  # the answer goes first
        return packed

    async def status(self) -> WorkerStatus:
        return self._worker.status()


def warm_up(decoder: Decoder[Any, Any]) -> None:
    """One small call, so that the first real one finds memory, kernels and caches ready.

    A decoder that cannot answer it is as good as any other.
    """
    config = decoder.config
    route = next((route for route in config.routes if route.after is None), config.routes[0])
    tokens = (*route.takes, route.token)
    generator = torch.Generator().manual_seed(0)
    links = tuple(
        SuperLink(
            token=token,
            embeddings=torch.randn(token.num_links, decoder.link_dim, generator=generator),
            phrase="thing",
            position=0,
        )
        for token in tokens
    )
    call = Call(
        id=f"{config.name}.warm-up",
        links=links,
        image=np.zeros((64, 64, 3), np.uint8) if config.needs_image else None,
        options={"steps": 1} if "steps" in config.options else {},
    )
    answer(decoder, [call])


def watch(worker: DecoderWorker, timeout: float) -> None:
    """End this process when one forward pass takes longer than any call may: Ray starts it anew.

    A thread that hangs cannot be stopped otherwise, and nobody waits any more for what it does.
    """

    def look() -> None:
        while True:
            time.sleep(min(1.0, timeout / 4))
            since = worker.running_since
            if since is not None and time.monotonic() - since > timeout:
                logger.error("a forward pass took longer than %g s; this process ends", timeout)
                os._exit(1)

    threading.Thread(target=look, name="superlink-watch", daemon=True).start()
