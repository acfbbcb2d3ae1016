"""A progress bar for a run, read from its metrics file: the workers may be in other processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from superlink.workflows.train.metrics import FILE_NAME, read_lines

INTERVAL = 0.5  # seconds between looks at the file


@contextmanager
def progress_of(folder: Path, steps: int, console: Console | None = None) -> Iterator[None]:
    """Show how far the run in `folder` is, until the block ends."""
    done = threading.Event()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=steps, state="")

        def show() -> None:
            for line in read_lines(folder / FILE_NAME)[-1:]:
                bar.update(task, completed=line["step"])
                if line["kind"] == "train":
                    bar.update(task, description=str(line["stage"]), state=describe(line))

        def watch() -> None:
            while not done.wait(INTERVAL):
                show()

        thread = threading.Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            show()


def describe(record: dict[str, Any]) -> str:
    """One record in a few words."""
    losses = record["losses"]
    parts = [f"loss {losses['total']:.3f}"]
    if "language" in losses:
        parts.append(f"language {losses['language']:.3f}")
    parts.append(f"{record['samples_per_second']:.1f} samples/s")
    return " · ".join(parts)
