"""A decoder that sleeps, fails or dies as its call says, and answers with what ran it; a router of one word.

Processes that tests start import them from here, so they stand in a module of their own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from superlink.decoders.artifacts import Artifact, Text
from superlink.decoders.contract import Call, Decoder, DecoderConfig, Route
from superlink.decoders.plain import from_plain, to_plain
from superlink.router.links import LinkBatch
from superlink.router.requests import Event, TextDelta
from superlink.router.tokens import RoutingToken

EXACT = 0.001  # seconds before the end of a sleep from which on it looks at the clock


@dataclass(frozen=True, kw_only=True)
class SleeperConfig(DecoderConfig):
    """`fixed` seconds a forward pass, and `each` for every call of it."""

    name: str = "sleeper"
    routes: tuple[Route, ...] = ()
    fixed: float = 0.0
    each: float = 0.0
    gather: bool = True
    needs_image: bool = False
    options: ClassVar[tuple[str, ...]] = ("seconds", "act")

    def build(self, link_dim: int) -> Sleeper:
        return Sleeper(self, link_dim)

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SleeperConfig:
        return from_plain(cls, data, {})


class Sleeper(Decoder[Any, Any]):
    """`act` of a call: "die" ends the process; "memory", "raise" and "defect" raise."""

    def __init__(self, config: SleeperConfig, link_dim: int) -> None:
        super().__init__()
        self.config: SleeperConfig = config
        self.link_dim = link_dim
        self.scale = nn.Parameter(torch.ones(1))

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> Sequence[Call]:
        return calls

    def forward(self, links: LinkBatch, inputs: Sequence[Call]) -> Tensor:
        longest = max(float(call.options.get("seconds", 0.0)) for call in inputs)  # type: ignore[arg-type]
        if seconds := self.config.fixed + self.config.each * len(inputs) + longest:
            sleep(seconds)
        for call in inputs:
            match call.options.get("act"):
                case "die":
                    os._exit(9)
                case "memory":
                    raise MemoryError
                case "raise":
                    raise RuntimeError("it failed\non purpose")
                case "defect":
                    raise AssertionError
        return links.embeddings.sum(dim=(1, 2, 3)) * self.scale

    def count(self, inputs: Any) -> float:
        return 1.0

    def loss(self, outputs: Any, inputs: Any, *, count: float) -> dict[str, Tensor]:
        return {}

    @property
    def weights(self) -> Mapping[str, float]:
        return {}

    def postprocess(self, outputs: Tensor, inputs: Sequence[Call]) -> list[Artifact]:
        """What ran the call: its process, and how many calls ran with it, as JSON."""
        shared = {"pid": os.getpid(), "batch": len(inputs)}
        return [
            Text(
                text=json.dumps(
                    {
                        **shared,
                        "names": call.names,
                        "sum": float(value),
                        "writeable": None if call.image is None else call.image.flags.writeable,
                        "pixels": None if call.image is None else int(call.image.sum()),
                    }
                )
            )
            for call, value in zip(inputs, outputs, strict=True)
        ]


class Scribe:
    """An actor in place of a router: writes which process it is, and no more."""

    async def ready(self) -> int:
        return os.getpid()

    async def stream(self, parcel: Any, *pictures: Any) -> AsyncGenerator[list[Event], None]:
        yield [TextDelta(row=0, text=str(os.getpid()))]


def sleep(seconds: float) -> None:
    """Exactly so long, as a decoder that computes would: `time.sleep` alone ends up to a millisecond late.

    That is what a hop takes, and would be measured as one.
    """
    end = time.perf_counter() + seconds
    time.sleep(max(seconds - EXACT, 0.0))
    while time.perf_counter() < end:
        time.sleep(0)  # lets other threads of this process run


def sleepers(tokens: Sequence[RoutingToken], **changes: Any) -> tuple[SleeperConfig, ...]:
    """A sleeper for every token, called as the token's decoder should be: "det", "seg"."""
    return tuple(
        SleeperConfig(name=token.table, routes=(Route(token=token, returns=Text),), **changes)
        for token in tokens
    )
