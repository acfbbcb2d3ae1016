"""What workers tell each other in a step: two sums and a barrier.

DistributedDataParallel is left out on purpose. In joint training a step may leave whole decoders
unused, different ones on each worker. DDP then needs `find_unused_parameters`, which walks the graph of
every step, and still waits for a bucket of zeros from each idle decoder. Here an idle decoder is never run,
and one small vector says which gradients exist at all; only those are summed, in one flat piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Collective(Protocol):
    """The workers of a run, seen from one of them."""

    rank: int
    world: int

    def sum(self, values: Tensor) -> None:
        """Sum over workers, in place."""

    def barrier(self) -> None: ...


class Alone:
    """A run with one worker."""

    rank = 0
    world = 1

    def sum(self, values: Tensor) -> None:
        pass

    def barrier(self) -> None:
        pass


class ProcessGroup:
    """The default torch.distributed group."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.world = torch.distributed.get_world_size()

    def sum(self, values: Tensor) -> None:
        torch.distributed.all_reduce(values)

    def barrier(self) -> None:
        torch.distributed.barrier()


def current() -> Collective:
    """The group that this process belongs to."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return ProcessGroup()
    return Alone()


def average_gradients(parameters: Sequence[nn.Parameter], collective: Collective) -> None:
    """Mean of every gradient over workers; a worker that did not use a parameter counts as zeros.

    A parameter that no worker used keeps no gradient, so the optimiser passes it over: its moments
    do not decay and its weights are not pulled to zero while its decoder is idle.
    """
    if collective.world == 1 or not parameters:
        return
    device = parameters[0].device
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    collective.sum(used)
    chosen = [p for p, count in zip(parameters, used.tolist(), strict=True) if count > 0]
    for dtype in sorted({p.dtype for p in chosen}, key=str):
        same = [p for p in chosen if p.dtype == dtype]
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in same])
        collective.sum(flat)
        flat /= collective.world
        for parameter, piece in zip(same, flat.split([p.numel() for p in same]), strict=True):
            # clone(): a view would keep the flat copy of the whole model alive with every gradient.
            parameter.grad = piece.view_as(parameter).clone()
