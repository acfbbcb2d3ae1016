"""Starts a run from a command: shows how far it is, and says how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from superlink.workflows.train.config import TrainConfig

# Options that every command of a run takes.
Gpu = Annotated[bool, typer.Option("--gpu", help="One CUDA device for each worker.")]
Local = Annotated[bool, typer.Option("--local", help="Plain processes in place of Ray.")]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint in the folder.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]


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
