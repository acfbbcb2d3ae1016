"""`superlink train RECIPE`: what it takes. Torch and Ray are imported when it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from superlink.workflows.train.config import TrainConfig

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def train_command(
    recipe: Annotated[str, typer.Argument(help="What to train: shapes-tiny, shapes-smoke.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run [default: runs/RECIPE].")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that share each batch.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the whole run; stages shrink in proportion.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, data order and noise.")] = None,
    prefetch: Annotated[
        int | None, typer.Option(min=0, help="Processes of each worker that make samples ahead.")
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="One CUDA device for each worker.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Plain processes in place of Ray.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint in the folder.")
    ] = True,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Train router and decoders together.

    Stop with Ctrl-C: the step in progress is finished and saved. The same command goes on from there,
    with exactly the result of a run that was never stopped.
    """
    from superlink.workflows.train.progress import progress_of
    from superlink.workflows.train.trainer import run, run_local

    config = _config(recipe, workers=workers, steps=steps, seed=seed, prefetch=prefetch, gpu=gpu)
    folder = out or Path("runs") / recipe
    start = run_local if local else run
    with progress_of(folder, config.steps):
        result = start(config, folder, resume=resume)
    if not result.finished:
        typer.echo(
            f"stopped after {result.steps} of {config.steps} steps; the same command goes on", err=True
        )
        raise typer.Exit(130)
    typer.echo(str(result.model))


def _config(
    recipe: str, *, workers: int | None, steps: int | None, seed: int | None, prefetch: int | None, gpu: bool
) -> TrainConfig:
    from superlink.router.errors import InputError
    from superlink.workflows.train.recipes import RECIPES

    if recipe not in RECIPES:
        raise InputError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    config = RECIPES[recipe]()
    config = replace(
        config,
        workers=workers or config.workers,
        seed=config.seed if seed is None else seed,
        prefetch=config.prefetch if prefetch is None else prefetch,
        use_gpu=gpu or config.use_gpu,
    )
    return config if steps is None else config.shortened(steps)
