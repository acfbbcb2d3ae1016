"""`superlink eval coco`, `refcoco` and `keypoints`: what they take, and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from superlink.workflows.eval.own import Asking, Task

# Options that every evaluation takes.
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="An embedded model, a model folder, or OWNER/NAME on the Hugging Face Hub."
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Questions of one generation.")]
Device = Annotated[str, typer.Option(help="Where the weights are kept.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]
Out = Annotated[Path | None, typer.Option(help="Write the JSON to this file, too.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")]
MOST_REASONS = 5  # why something was left out, printed

# Those of evaluations on data of the user's.
Data = Annotated[
    Path, typer.Option("--data", help="The file of labels, or a folder with one, itself or in `annotations`.")
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Folder of the pictures; found out by default.")
]
Count = Annotated[
    int | None, typer.Option(min=1, help="Questions of each part, drawn by chance; all by default.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the questions that --count draws.")]
Threshold = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Least score of an item; by default the decoder's.")
]
AllClasses = Annotated[
    bool,
    typer.Option("--all-classes", help="Ask for every class of the file, not only for those in the picture."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without records that cannot be used.")]
Instruction = Annotated[
    str | None, typer.Option(metavar="WORDS", help="In place of the question, with its words in braces.")
]


def coco(
    data: Data,
    images: Images = None,
    model: Model = "tiny",
    count: Count = None,
    seed: Seed = 0,
    instruction: Instruction = None,
    outline: Annotated[
        str | None, typer.Option(metavar="WORDS", help="The same for the question for masks.")
    ] = None,
    all_classes: AllClasses = False,
    threshold: Threshold = None,
    skip_bad: SkipBad = False,
    batch: Batch = 8,
    device: Device = "cpu",
    json: Json = False,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Boxes, and masks where objects have outlines, of your own pictures with labels in COCO's format.

    Asked are "Find every {classes}." and "Outline every {classes}.", with the classes in each picture.
    """
    from superlink.workflows.eval.own import Asking

    asking = Asking(
        count=count,
        seed=seed,
        instruction=_with_place(instruction, "{classes}", "--instruction"),
        outline=_with_place(outline, "{classes}", "--outline"),
        every_class=all_classes,
        threshold=threshold,
        skip_bad=skip_bad,
    )
    _run("coco", data, images, asking, model=model, batch=batch, device=device, json=json, out=out)


def refcoco(
    data: Data,
    images: Images = None,
    model: Model = "tiny",
    count: Count = None,
    seed: Seed = 0,
    instruction: Instruction = None,
    threshold: Threshold = None,
    skip_bad: SkipBad = False,
    batch: Batch = 8,
    device: Device = "cpu",
    json: Json = False,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Objects named in words on your own pictures: the share whose best box has an IoU of 0.5 or more.

    Asked is "Find the {phrase}.", for every expression.
    """
    from superlink.workflows.eval.own import Asking

    asking = Asking(
        count=count,
        seed=seed,
        instruction=_with_place(instruction, "{phrase}", "--instruction"),
        threshold=threshold,
        skip_bad=skip_bad,
    )
    _run("refcoco", data, images, asking, model=model, batch=batch, device=device, json=json, out=out)


def keypoints(
    data: Data,
    images: Images = None,
    model: Model = "tiny",
    count: Count = None,
    seed: Seed = 0,
    instruction: Instruction = None,
    all_classes: AllClasses = False,
    threshold: Threshold = None,
    skip_bad: SkipBad = False,
    batch: Batch = 8,
    device: Device = "cpu",
    json: Json = False,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Keypoints on your own pictures with labels in COCO's format: average precision over OKS, and PCK.

    Asked is "Find the keypoints of every {classes}." where they are COCO's seventeen; others are named:
    "Find every {classes} and mark the keypoints of each: {keypoints}."
    """
    from superlink.workflows.eval.own import Asking

    asking = Asking(
        count=count,
        seed=seed,
        instruction=_with_place(instruction, "{classes}", "--instruction"),
        every_class=all_classes,
        threshold=threshold,
        skip_bad=skip_bad,
    )
    _run("keypoints", data, images, asking, model=model, batch=batch, device=device, json=json, out=out)


def _with_place(wording: str | None, place: str, option: str) -> str | None:
    """A wording that has the place; without it every picture would be asked the same."""
    if wording is not None and place not in wording:
        raise typer.BadParameter(
            f"{wording!r} lacks {place}, which stands for what is asked for", param_hint=option
        )
    return wording


def _run(
    task: Task,
    data: Path,
    images: Path | None,
    asking: Asking,
    *,
    model: str,
    batch: int,
    device: str,
    json: bool,
    out: Path | None,
) -> None:
    from superlink.agents.system import load
    from superlink.workflows.eval.answering import answers_of
    from superlink.workflows.eval.own import opened
    from superlink.workflows.eval.report import bars, show

    with load(model, device=device) as system, bars() as shown:
        tokens = [route.token.text for decoder in system.decoders for route in decoder.routes]
        reading = shown.add_task("reading", total=None)
        own = opened(task, data, tokens, images=images, asking=asking)
        shown.remove_task(reading)
        rows = {part.name: shown.add_task(part.name, total=len(part.questions)) for part in own.parts}
        report = own.evaluate(
            answers_of(system),
            model=system.name,
            batch=batch,
            progress=lambda part, done: shown.advance(rows[part], done),
        )
    for reason in own.skipped[:MOST_REASONS]:
        typer.echo(f"left out: {reason}", err=True)
    if len(own.skipped) > MOST_REASONS:
        typer.echo(f"left out: {len(own.skipped) - MOST_REASONS} more", err=True)
    if own.failed:
        typer.echo(own.failed, err=True)
    show(report, json=json, out=out)
