"""What the benchmarks share: times that are taken in turns, and what a number depends on besides the code."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Seconds(NamedTuple):
    """Times of one piece of work; other load of the machine stretches `wall` and hardly `cpu`."""

    wall: float
    cpu: float  # of all threads of this process


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Seconds:
        return Seconds(wall=time.perf_counter() - self._wall, cpu=time.process_time() - self._cpu)


def timed(run: Callable[[], object]) -> Callable[[], Seconds]:
    """`run`, giving how long it took."""

    def seconds() -> Seconds:
        watch = Stopwatch()
        run()
        return watch.read()

    return seconds


def medians(runs: Sequence[Callable[[], Seconds]], repeats: int) -> list[Seconds]:
    """Medians of the times that each run gives, taken in turns so that other load falls on all alike.

    Every run is made once more before, which is not counted.
    """
    for run in runs:
        run()
    seconds: list[list[Seconds]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, found in zip(runs, seconds, strict=True):
            found.append(run())
    return [Seconds(*map(statistics.median, zip(*found, strict=True))) for found in seconds]


def surroundings() -> dict[str, Any]:
    """Machine, load, versions and commit."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("torch", "transformers", "diffusers", "numpy", "superlink")
        },
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
