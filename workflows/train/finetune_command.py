"""`superlink train finetune --data PATH` and the published stages: what they take, and what they print."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from superlink.workflows.train.starting import Debug, Gpu, Json, Local, Resume, start_run

if TYPE_CHECKING:
    from superlink.workflows.train.config import Source
    from superlink.workflows.train.finetune import Changes
    from superlink.workflows.train.staged import Start

# Name and purpose of every recipe that learns from the user's data; needs no torch.
SUMMARIES = {
    "finetune": "Train a model further on your own data.",
    "align": "First stage of VisionLLM v2: bridge and region encoder alone.",
    "tune": "Second: the language model, bridge and region encoder.",
    "multi-capacity": "Third: all decoders, with LoRA (rank 32) in the language model.",
    "decoder-only": "Last: decoders and link queries alone.",
    "visionllm-v2-7b": "The four stages of VisionLLM v2 in turn, with the published numbers.",
}


def staged_command(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            help="A file of records, or a folder with one: COCO, RefCOCO, LLaVA, edit pairs. Repeat.",
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model to start from: an embedded one, or a folder.")
    ] = "tiny",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/RECIPE-MODEL by default.")
    ] = None,
    as_format: Annotated[
        str | None,
        typer.Option("--format", help="coco, coco-keypoints, refcoco, llava or edits; found out by default."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the pictures; found out by default.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without records that cannot be used.")
    ] = False,
    only_check: Annotated[bool, typer.Option("--check", help="Check the data and stop there.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the run.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0, help="Times each sample is seen.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples of a step.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Highest learning rate.")] = None,
    lora: Annotated[
        int | None,
        typer.Option(min=1, help="Rank of adapters that learn in place of the language model's weights."),
    ] = None,
    trainable: Annotated[
        list[str] | None,
        typer.Option(
            "--trainable", metavar="GLOB", help="Parameters that learn, such as 'decoders.*'. Repeat."
        ),
    ] = None,
    average: Annotated[
        float | None, typer.Option(help="Decay of a running average of what learns, such as 0.999.")
    ] = None,
    keep_links: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="WEIGHT",
            help="Hold links where they are, for decoders that do not learn along; such as 2.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share each batch.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of wordings, data order and noise.")] = 0,
    gpu: Gpu = False,
    local: Local = False,
    resume: Resume = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The data is checked first: what it holds, and the first records that cannot be used, by name."""
    from superlink.workflows.data.formats import recognise
    from superlink.workflows.train.finetune import Changes, checked, output_folder, sources_of, total
    from superlink.workflows.train.staged import Start

    recipe = str(context.info_name)
    folder = output_folder(out, recipe, model)
    start = Start.of(model, name=folder.name)
    files = [recognise(path, as_format=as_format, images=images) for path in data]
    reports = checked(start, files, seed=seed, over=_shown)
    for line in [line for report in reports for line in report.lines()]:
        typer.echo(line, err=True)
    if only_check and json:  # bad records, which end the command in the next line, are in it
        typer.echo(json_format.dumps([report.to_json() for report in reports]))
    sources = sources_of(start, reports, seed=seed, skip_bad=skip_bad)
    if only_check:
        return
    changes = Changes(
        steps=steps,
        epochs=epochs,
        batch=batch,
        lr=lr,
        lora=lora,
        trainable=tuple(trainable or ()),
        average=average,
        keep_links=keep_links,
        workers=workers,
        use_gpu=gpu,
        seed=seed,
    )
    _run_stages(
        recipe, folder, start, sources, total(reports), changes, local=local, resume=resume, json=json
    )


def _run_stages(
    recipe: str,
    folder: Path,
    start: Start,
    sources: Sequence[Source],
    samples: int,
    changes: Changes,
    *,
    local: bool,
    resume: bool,
    json: bool,
) -> None:
    """One run in the folder itself; or several, one after another, in folders of their own."""
    from superlink.workflows.train.finetune import config_of
    from superlink.workflows.train.staged import SERIES

    series = next((one for one in SERIES if one == recipe), None)
    stages = SERIES[series] if series else (recipe,)
    for index, stage in enumerate(stages, 1):
        own = folder / f"{index}-{stage}" if series else folder
        if series:
            typer.echo(f"stage {index} of {len(stages)}: {stage}", err=True)
        config = config_of(stage, start, sources, samples=samples, changes=changes, scale=series)
        start_run(config, own, local=local, resume=resume, json=json)
        start = replace(start, system=replace(start.system, folder=own / "model"))


def _shown(indices: Sequence[int]) -> Iterable[int]:
    """The indices, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    return track(indices, description="checking", console=Console(stderr=True), transient=True)
