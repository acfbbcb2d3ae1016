"""The command line of evaluation: `superlink eval shapes`, and the tasks on data of the user's."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from superlink.workflows.eval import own_command
from superlink.workflows.eval.own_command import Batch, Debug, Device, Json, Model, Out

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
    model: Model = "tiny",
    count: Annotated[int, typer.Option(min=1, help="Questions of each part.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds ask about other scenes.")] = 0,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this part: routing, wordings, boxes, masks, grounding, foreign, foreign-people, "
            "keypoints, vqa, captions, interactive, generation or edits; may repeat. By default all that "
            "the model has decoders for; vqa and captions, which need none, if it has one for every token."
        ),
    ] = None,
    batch: Batch = 8,
    device: Device = "cpu",
    json: Json = False,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Every task of the shapes world on held-out questions, and pictures drawn by other programs."""
    from superlink.agents.system import load
    from superlink.workflows.eval.answering import answers_of
    from superlink.workflows.eval.report import bars, show
    from superlink.workflows.eval.shapes import PARTS, evaluate, questions_of
    from superlink.workflows.eval.tasks import SPOKEN, unanswered, writes_everything

    parts = tuple(dict.fromkeys(part or PARTS))
    if unknown := [one for one in parts if one not in PARTS]:
        raise typer.BadParameter(f"no part {unknown[0]!r}; parts are {', '.join(PARTS)}", param_hint="--part")
    with load(model, device=device) as system, bars() as shown:
        tokens = [route.token.text for decoder in system.decoders for route in decoder.routes]
        left_out = {one: f"no decoder for {token}" for one, token in unanswered(parts, tokens).items()}
        if not part and not writes_everything(tokens):
            left_out |= {one: f"only with --part {one}" for one in SPOKEN}
        if left_out:
            reasons = ", ".join(f"{one} ({why})" for one, why in left_out.items())
            sys.stderr.write(f"left out for {system.name!r}: {reasons}\n")
        parts = tuple(one for one in parts if one not in left_out)
        rows = {one: shown.add_task(one, total=questions_of(one, count, tokens)) for one in parts}
        report = evaluate(
            answers_of(system),
            model=system.name,
            count=count,
            seed=seed,
            parts=parts,
            tokens=tokens,
            batch=batch,
            progress=lambda one, done: shown.advance(rows[one], done),
        )
    show(report, json=json, out=out)


app.command("coco")(own_command.coco)
app.command("refcoco")(own_command.refcoco)
app.command("keypoints")(own_command.keypoints)
