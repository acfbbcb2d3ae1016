"""Two workers as two threads of one process, that take turns: the same loop without processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Answer = TypeVar("Answer")


class Meeting:
    """Where the threads hand in their tensors."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=60)
        self.tensors: list[Tensor | None] = [None] * world


class ThreadCollective:
    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.world = rank, len(meeting.tensors)
        self.meeting = meeting

    def sum(self, values: Tensor) -> None:
        self.meeting.tensors[self.rank] = values.clone()
        self.meeting.barrier.wait()
        total = torch.stack([t for t in self.meeting.tensors if t is not None]).sum(0)
        self.meeting.barrier.wait()
        values.copy_(total)

    def barrier(self) -> None:
        self.meeting.barrier.wait()


def collectives(world: int = 2) -> list[ThreadCollective]:
    meeting = Meeting(world)
    return [ThreadCollective(rank, meeting) for rank in range(world)]


def in_threads(calls: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Every call at the same time, each in a thread of its own; answers in order."""
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]
