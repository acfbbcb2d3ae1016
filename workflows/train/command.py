"""`superlink train`: recipes and what they take. Torch and Ray are imported when one runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from superlink.agents.embedded import model_folder
from superlink.workflows.train.finetune_command import SUMMARIES, staged_command
from superlink.workflows.train.starting import Debug, Gpu, Json, Local, Resume, start_run

if TYPE_CHECKING:
    from superlink.workflows.train.config import TrainConfig

RECIPE = "RECIPE"


class _Recipes(TyperGroup):
    """A first word that is no command is a recipe: `superlink train shapes-tiny`."""

    # Any: newer typers have a click of their own.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = [RECIPE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Recipes,
    help="Train router and decoders together: a recipe by its name, or on your own data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    RECIPE,
    short_help="shapes-tiny (from nothing), shapes-family (all decoders), shapes-sentences (words alone), "
    "shapes-answers (questions), or a minute: shapes-smoke, shapes-family-smoke.",
)
def train_command(
    recipe: Annotated[
        str, typer.Argument(help="What to train: shapes-tiny, shapes-family; see `train list`.")
    ],
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            help="Model that a recipe goes on from: an embedded one, or a folder; tiny by default.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Folder with weights to begin with, such as a checkpoint of another run, or a part."
        ),
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage of the recipe; may repeat. By default all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; runs/RECIPE by default.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that share each batch.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the whole run; stages shrink in proportion.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, data order and noise.")] = None,
    prefetch: Annotated[
        int | None, typer.Option(min=0, help="Processes of each worker that make samples ahead.")
    ] = None,
    gpu: Gpu = False,
    local: Local = False,
    resume: Resume = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train router and decoders together.

    Stop with Ctrl-C: the step in progress is finished and saved. The same command goes on from there,
    with exactly the result of a run that was never stopped.
    """
    config = _config(recipe, start=start, workers=workers, steps=steps, seed=seed, prefetch=prefetch, gpu=gpu)
    if stage:
        config = config.only(stage)
    if weights is not None:
        config = replace(config, weights=weights.absolute())
    start_run(config, out or Path("runs") / recipe, local=local, resume=resume, json=json)


@app.command("list")
def list_command() -> None:
    """Print every recipe with its purpose, one a line."""
    from superlink.workflows.train.recipes import RECIPES

    for name, build in RECIPES.items():
        typer.echo(f"{name:<20}{(build.__doc__ or '').strip().splitlines()[0]}")
    for name, summary in SUMMARIES.items():
        typer.echo(f"{name:<20}{summary} Needs --data.")


@app.command("mix", short_help="The weighted mean of models that were trained from one another.")
def mix_command(
    out: Annotated[Path, typer.Argument(help="Folder of the model that comes out.")],
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL=SHARE...", help="Model folders with their shares.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="Parameters to mix, such as 'router.*'; the others are the first's."
        ),
    ] = None,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option(help="Of the weights in the files.")
    ] = "fp32",
    debug: Debug = False,
) -> None:
    """The weighted mean of models that were trained from one another; often better than each of them.

    superlink train mix runs/mean runs/last/model=0.65 runs/first/model=0.35 --only 'router.*'
    """
    from superlink.agents.model_folder import save_model
    from superlink.router.errors import InputError, UsageError
    from superlink.workflows.train.mixing import mixed

    shares: dict[Path, float] = {}
    for one in models:
        path, _, share = one.rpartition("=")
        try:
            shares[model_folder(path)] = float(share)
        except ValueError as error:
            raise UsageError(f"{one!r} is no model with its share; write MODEL=0.5") from error
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} is there already; name another folder or remove it")
    save_model(out, mixed(shares, globs=tuple(only or ("*",)), name=out.name), dtype=dtype)
    typer.echo(str(out))


for _name, _summary in SUMMARIES.items():
    app.command(_name, short_help=_summary, help=f"{_summary}\n\n{staged_command.__doc__}")(staged_command)


def _config(
    recipe: str,
    *,
    start: str | None,
    workers: int | None,
    steps: int | None,
    seed: int | None,
    prefetch: int | None,
    gpu: bool,
) -> TrainConfig:
    from superlink.router.errors import UsageError
    from superlink.workflows.train.recipes import GROWING, RECIPES

    if recipe not in RECIPES:
        known = (*RECIPES, *SUMMARIES)
        raise UsageError(f"no recipe {recipe!r}; there are {', '.join(known)}")
    if start is not None and recipe not in GROWING:
        raise UsageError(f"{recipe!r} starts from nothing; --start is for {', '.join(GROWING)}")
    config = RECIPES[recipe]() if start is None else GROWING[recipe](start)
    config = replace(
        config,
        workers=workers or config.workers,
        seed=config.seed if seed is None else seed,
        prefetch=config.prefetch if prefetch is None else prefetch,
        use_gpu=gpu or config.use_gpu,
    )
    return config if steps is None else config.shortened(steps)
