"""Starts a run from a command: shows how far it is, and says how it ended."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from superlink.workflows.train.config import TrainConfig
    from superlink.workflows.train.trainer import RunResult

# Options that every command of a run takes.
Gpu = Annotated[bool, typer.Option("--gpu", help="One CUDA device for each worker.")]
Local = Annotated[bool, typer.Option("--local", help="Plain processes in place of Ray.")]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint in the folder.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object at the end: folders, steps and the last losses.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]


def start_run(config: TrainConfig, folder: Path, *, local: bool, resume: bool, json: bool = False) -> None:
    """Train to the end and print the model's folder; exit code 130 where somebody stopped it."""
    from superlink.workflows.train.progress import progress_of
    from superlink.workflows.train.trainer import run, run_local

    start = run_local if local else run
    with progress_of(folder, config.steps):
        result = start(config, folder, resume=resume)
    if json:
        typer.echo(json_format.dumps(_summary(result, config.steps)))
    elif result.finished:
        typer.echo(str(result.model))
    if not result.finished:
        typer.echo(
            f"stopped after {result.steps} of {config.steps} steps; the same command goes on", err=True
        )
        raise typer.Exit(130)


def _summary(result: RunResult, steps: int) -> dict[str, Any]:
    from superlink.workflows.train.metrics import FILE_NAME, read_lines

    trained = [line for line in read_lines(result.folder / FILE_NAME) if line["kind"] == "train"]
    return {
        "folder": str(result.folder),
        "model": str(result.model) if result.finished else None,
        "steps": result.steps,
        "of": steps,
        "finished": result.finished,
        "losses": trained[-1]["losses"] if trained else {},
    }
