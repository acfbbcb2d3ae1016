"""Starts a run from a command: shows how far it is, and says how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from superlink.workflows.train.config import TrainConfig


def start_run(config: TrainConfig, folder: Path, *, local: bool, resume: bool) -> None:
    """Train to the end and print the model's folder; exit code 130 where somebody stopped it."""
    from superlink.workflows.train.progress import progress_of
    from superlink.workflows.train.trainer import run, run_local

    start = run_local if local else run
    with progress_of(folder, config.steps):
        result = start(config, folder, resume=resume)
    if not result.finished:
        typer.echo(
            f"stopped after {result.steps} of {config.steps} steps; the same command goes on", err=True
        )
        raise typer.Exit(130)
    typer.echo(str(result.model))
