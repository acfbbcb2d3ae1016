"""What a run writes down: one JSON line every few steps, and the same for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from superlink.workflows.train.collective import Collective

FILE_NAME = "metrics.jsonl"


class Stopwatch:
    """Seconds spent under each name, until `take`.

    On a GPU the work of a phase is queued, not done, when its block ends; only the sum is exact then.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """What was measured so far; starts again from nothing."""
        taken, self.seconds = self.seconds, {}
        return taken


class MetricsWriter:
    """Writes records of one run; a resumed run first drops lines of steps that are done again."""

    def __init__(self, folder: Path, *, first_step: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        kept = [line for line in read_lines(self.path) if line["step"] <= first_step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One record, on disk when this returns.

        Args:
            kind: "train" or "validation".
            step: steps done.
            values: numbers, words, or one level of numbers by name.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in _numbers(values):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics file; a last line that was cut short is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


class StepLog:
    """Sums of loss terms between two records."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = ("total", *names)
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.present: list[list[bool]] = []  # for each step, of every name
        self.norm, self.samples, self.steps = 0.0, 0, 0

    def add(
        self, losses: Mapping[str, Tensor], norm: float, *, samples: int, active: Mapping[str, float]
    ) -> None:
        """One step of this worker.

        Args:
            losses: the terms that it had, and "total".
            active: what losses were divided by, the same on every worker.
        """
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        # A decoder that runs may still lack a term. Others are there where they count, even in a step that
        # drew none of them: "kept_links" weighs as much more in the steps that it is drawn in.
        self.present.append(
            [name == "total" or (name in losses if "/" in name else name in active) for name in self.names]
        )
        self.norm += norm
        self.samples += samples
        self.steps += 1

    def take(self, collective: Collective, device: torch.device) -> dict[str, Any]:
        """Means over workers, and over the steps in which any of them had the term; then starts anew."""
        sums = [float(self.sums.get(name, 0.0)) for name in self.names]
        had = [float(one) for step in self.present for one in step]
        both = torch.tensor([*sums, *had], device=device)
        collective.sum(both)
        width = len(self.names)
        steps = (both[width:].reshape(-1, width) > 0).sum(0)
        losses = {
            name: value / collective.world / count
            for name, value, count in zip(self.names, both[:width].tolist(), steps.tolist(), strict=True)
            if count
        }
        taken = {
            "losses": losses,
            "grad_norm": self.norm / max(self.steps, 1),
            "samples": self.samples,
            "steps": self.steps,
        }
        self._reset()
        return taken
