"""The command line of evaluation: `superlink eval shapes`."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="superlink eval",
    help="Measure a model, free-running: what a user would get is what is scored.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def tasks() -> None:
    """Measure a model, free-running: what a user would get is what is scored."""


@app.command()
def shapes(
    model: Annotated[str, typer.Option(help="An embedded model's name or a model folder.")] = "tiny",
    count: Annotated[int, typer.Option(min=1, help="Questions of each part.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds ask about other scenes.")] = 0,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this part: routing, wordings, boxes, masks, grounding, foreign, foreign-people, "
            "keypoints, vqa, captions, interactive, generation or edits; may repeat. By default all that "
            "the model has decoders for but vqa and captions."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Questions of one generation.")] = 8,
    device: Annotated[str, typer.Option(help="Where the weights are kept.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON to this file, too.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
) -> None:
    """Every task of the shapes world on held-out questions, and pictures drawn by other programs."""
    from rich.console import Console
    from rich.progress import Progress

    from superlink.agents.system import load
    from superlink.decoders.files import write_whole
    from superlink.workflows.eval.answering import answers_of
    from superlink.workflows.eval.shapes import PARTS, evaluate, questions_of
    from superlink.workflows.eval.tasks import SPOKEN, unanswered

    parts = tuple(dict.fromkeys(part or PARTS))
    if unknown := [one for one in parts if one not in PARTS]:
        raise typer.BadParameter(f"no part {unknown[0]!r}; parts are {', '.join(PARTS)}", param_hint="--part")
    with (
        load(model, device=device) as system,
        Progress(console=Console(file=sys.stderr), transient=True) as bars,
    ):
        tokens = [route.token.text for decoder in system.decoders for route in decoder.routes]
        left_out = {one: f"no decoder for {token}" for one, token in unanswered(parts, tokens).items()}
        if not part:
            left_out |= {one: f"only with --part {one}" for one in SPOKEN}
        if left_out:
            reasons = ", ".join(f"{one} ({why})" for one, why in left_out.items())
            sys.stderr.write(f"left out for {system.name!r}: {reasons}\n")
        parts = tuple(one for one in parts if one not in left_out)
        rows = {one: bars.add_task(one, total=questions_of(one, count, tokens)) for one in parts}
        report = evaluate(
            answers_of(system),
            model=system.name,
            count=count,
            seed=seed,
            parts=parts,
            tokens=tokens,
            batch=batch,
            progress=lambda one, done: bars.advance(rows[one], done),
        )
    line = json_format.dumps(report.to_json())
    if out is not None:
        write_whole(out, line.encode() + b"\n")
    if json:
        sys.stdout.write(line + "\n")
    else:
        Console().print(report.table())
