"""What an evaluation found: named numbers with what they were counted over."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    group: str  # "routing", "boxes", ...
    name: str  # "AP50"
    value: float  # in [0, 1]
    count: int  # how many things it was measured on


def share(group: str, name: str, flags: Sequence[bool]) -> Metric:
    """The share of true ones; 0 of none."""
    return Metric(group=group, name=name, value=sum(flags) / len(flags) if flags else 0.0, count=len(flags))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalReport:
    task: str  # "shapes", "coco", "refcoco" or "keypoints"
    model: str
    seed: int
    seconds: float
    metrics: tuple[Metric, ...]
    data: str = ""  # the user's file; empty for the shapes world

    def value(self, group: str, name: str) -> float:
        """One number.

        Raises:
            KeyError: it was not measured.
        """
        for metric in self.metrics:
            if (metric.group, metric.name) == (group, name):
                return metric.value
        have = ", ".join(f"{metric.group}/{metric.name}" for metric in self.metrics)
        raise KeyError(f"{group}/{name} was not measured; measured were {have or 'no metrics'}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"metrics": [asdict(metric) for metric in self.metrics]}

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table

        table = Table(title=f"{self.task}: {self.model} (seed {self.seed}, {self.seconds:.0f} s)")
        table.add_column("what")
        table.add_column("metric")
        table.add_column("value", justify="right")
        table.add_column("of", justify="right")
        group = ""
        for metric in self.metrics:
            if metric.group != group and group:
                table.add_section()
            shown = "" if metric.group == group else metric.group
            value = f"{metric.value:.3f}" if metric.count else "-"  # nothing was measured
            table.add_row(shown, metric.name, value, str(metric.count))
            group = metric.group
        return table


def bars() -> Progress:
    """Progress on standard error where that is a terminal; elsewhere nothing, not even an empty line."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def show(report: EvalReport, *, json: bool, out: Path | None) -> None:
    """Print a table, or one JSON object; the JSON goes to the file `out` too."""
    from rich.console import Console

    from superlink.decoders.files import write_whole

    line = json_format.dumps(report.to_json()) + "\n"
    if json:
        sys.stdout.write(line)
    else:
        Console().print(report.table())
    if out is not None:  # last: what was measured is not lost where the file cannot be written
        sys.stdout.flush()
        write_whole(out, line.encode())
