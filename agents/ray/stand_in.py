"""Writes for one caller after the other, until a service that writes for many at once takes its place."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence

import torch

from superlink.router.errors import BusyError
from superlink.router.generation import stream
from superlink.router.model import Router
from superlink.router.requests import Event, Request
from superlink.router.tokenizer import RouterTokenizer


class RouterService:
    """The interface of the router's service over plain generation."""

    def __init__(
        self,
        router: Router,
        tokenizer: RouterTokenizer,
        *,
        max_rows: int,
        max_waiting: int,
        prefix_bytes: int,
    ) -> None:
        self._router, self._tokenizer = router, tokenizer
        self._limit = max_rows + max_waiting
        self._inside = 0
        self._lock = threading.Lock()

    @torch.inference_mode()
    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        """Events of one generation.

        Raises:
            InputError: a conversation cannot be used.
            BusyError: too many requests are inside already.
        """
        with self._lock:
            if self._inside + len(requests) > self._limit:
                raise BusyError(f"the router is busy: {self._inside} requests wait for it; ask again later")
            self._inside += len(requests)
        try:
            yield from stream(self._router, self._tokenizer, requests)
        finally:
            with self._lock:
                self._inside -= len(requests)

    def close(self) -> None:
        """Nothing to give back."""
