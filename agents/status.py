"""What runs and how fast: queue lengths, batch sizes and times of the router and every decoder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

WINDOW = 512  # pieces of work that times and sizes are taken over


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One decoder, or one replica of it; or the router."""

    name: str
    replica: int = 0
    up: bool = True
    waiting: int = 0  # calls or replies
    running: int = 0
    done: int = 0  # since the start
    batch_mean: float = 0.0  # calls of one forward pass, lately
    batch_max: int = 0
    p50: float = 0.0  # seconds of one call, waiting included, lately
    p95: float = 0.0
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStatus:
    """All of a system; the router comes first."""

    workers: tuple[WorkerStatus, ...]

    def of(self, name: str) -> tuple[WorkerStatus, ...]:
        """Every replica of one decoder, or of the "router"."""
        return tuple(worker for worker in self.workers if worker.name == name)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data, a dictionary a worker."""
        return [asdict(worker) for worker in self.workers]

    def table(self) -> str:
        """For people."""
        head = (
            "name",
            "replica",
            "up",
            "waiting",
            "running",
            "done",
            "batch",
            "p50 ms",
            "p95 ms",
            "restarts",
        )
        return aligned([head, *map(_cells, self.workers)])


class Writes(Protocol):
    """What the router's service tells of itself."""

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def rows_per_step(self) -> float: ...


def router_status(now: Writes, meter: Meter) -> WorkerStatus:
    """The router among the workers; its batches are the rows of one step."""
    own = meter.read("router", waiting=now.waiting, running=now.running)
    return replace(own, batch_mean=now.rows_per_step)


class Meter:
    """Counts of one worker. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: deque[int] = deque(maxlen=WINDOW)
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._done = 0

    def batch(self, size: int) -> None:
        """A forward pass begins."""
        with self._lock:
            self._sizes.append(size)

    def done(self, seconds: float, count: int = 1) -> None:
        """Pieces of work that came in together are finished."""
        with self._lock:
            self._done += count
            self._seconds.extend([seconds] * count)

    def read(self, name: str, *, waiting: int = 0, running: int = 0) -> WorkerStatus:
        with self._lock:
            sizes, seconds = list(self._sizes), sorted(self._seconds)
            return WorkerStatus(
                name=name,
                waiting=waiting,
                running=running,
                done=self._done,
                batch_mean=sum(sizes) / len(sizes) if sizes else 0.0,
                batch_max=max(sizes, default=0),
                p50=quantile(seconds, 0.5),
                p95=quantile(seconds, 0.95),
            )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered ones lie; 0 for none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Rows of a table as lines: names to the left, numbers to the right."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in table
    )


def _cells(worker: WorkerStatus) -> tuple[str, ...]:
    return (
        worker.name,
        str(worker.replica),
        "yes" if worker.up else "no",
        str(worker.waiting),
        str(worker.running),
        str(worker.done),
        f"{worker.batch_mean:.1f}",
        f"{worker.p50 * 1000:.1f}",
        f"{worker.p95 * 1000:.1f}",
        str(worker.restarts),
    )
