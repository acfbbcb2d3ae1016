"""What an evaluation found: named numbers with what they were counted over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    task: str  # "shapes"
    model: str
    seed: int
    seconds: float
    metrics: tuple[Metric, ...]

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
            table.add_row(shown, metric.name, f"{metric.value:.3f}", str(metric.count))
            group = metric.group
        return table
