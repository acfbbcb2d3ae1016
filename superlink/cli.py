"""The command line: what each command is called and takes.

Only the standard library and typer are imported here; a command imports what it needs when it runs.
Errors are one line on stderr and exit code 1; bad usage is exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import superlink
from superlink.streams import own_stdout, whole_streams

if TYPE_CHECKING:
    from superlink.agents.engine import Startable
    from superlink.router.messages import Box, Point

app = typer.Typer(
    name="superlink",
    help="One multimodal LLM drives separate vision decoders through super-links.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MOUNTED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def main() -> None:
    """Entry point of the `superlink` script."""
    whole_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be valid text
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # nor need a question, or the name after /image
    app()


@contextmanager
def one_line_errors(*, debug: bool) -> Iterator[None]:
    """Report an error on purpose, or one of the machine, in one line; with `debug`, in full."""
    from superlink.router.errors import SuperlinkError, UsageError

    try:
        yield
    except BrokenPipeError:
        # Whoever read our output has left; without this, Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (SuperlinkError, OSError, MemoryError, RuntimeError, ImportError) as error:
        if debug or isinstance(error, typer.Exit | typer.Abort):
            raise
        kind = "" if isinstance(error, SuperlinkError) else f"{type(error).__name__}: "
        message = " ".join(str(error).split())
        hint = "" if isinstance(error, SuperlinkError) else " (--debug shows where)"
        typer.echo(f"superlink: error: {kind}{message}{hint}", err=True)
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error


def parse_point(text: str) -> Point:
    """ "X,Y" in pixels."""
    from superlink.router.messages import Point

    return Point(*_numbers(text, "X,Y"))


def parse_box(text: str) -> Box:
    """ "X0,Y0,X1,Y1" in pixels."""
    from superlink.router.messages import Box

    return Box(*_numbers(text, "X0,Y0,X1,Y1"))


def _numbers(text: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"expected {form} in pixels, got {text!r}") from error
    if len(numbers) != form.count(",") + 1:
        raise typer.BadParameter(f"expected the {form.count(',') + 1} numbers {form} in pixels, got {text!r}")
    return numbers


def parse_size(text: str) -> tuple[int, int]:
    """ "WxH" in pixels, as width and height."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"expected WIDTHxHEIGHT in pixels, got {text!r}")
    return int(width), int(height)


def decoder_options(
    *, steps: int | None, guidance: float | None, image_guidance: float | None, size: str | None
) -> dict[str, object]:
    """The options that were given, by the names that decoders know."""
    given: dict[str, object] = {"steps": steps, "guidance": guidance, "image_guidance": image_guidance}
    if size is not None:
        given["width"], given["height"] = parse_size(size)
    return {name: value for name, value in given.items() if value is not None}


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="An embedded model, a folder, or OWNER/NAME of the Hugging Face Hub.",
        show_default=True,
    ),
]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Where the models run: here, or on Ray.")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Of the Ray cluster; without it a runtime is started on this machine."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line for every answer.")]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", min=0.0, max=1.0, help="Least score of an item; by default the decoder's."),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Of making a picture.")]
Guidance = Annotated[
    float | None, typer.Option("--guidance", min=0.0, help="How closely a made picture keeps to the words.")
]
ImageGuidance = Annotated[
    float | None, typer.Option("--image-guidance", min=0.0, help="How closely an edit keeps to its picture.")
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Of a made picture; an edit has its picture's size."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
MaxNewTokens = Annotated[int | None, typer.Option("--max-new-tokens", min=1, help="Longest reply.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="File of sessions; by default sessions.db in SUPERLINK_HOME or in the user's data folder.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for drawn pictures and JSON; without it nothing is written."),
]


def checked_address(engine: str, address: str | None) -> str | None:
    """An address of a cluster, or None.

    Raises:
        UsageError: an address for an engine that has none.
    """
    if address is not None and engine != "ray":
        from superlink.router.errors import UsageError

        raise UsageError(f"--address is that of a Ray cluster; --engine {engine} has none")
    return address


def chosen_engine(engine: str, address: str | None) -> str | Startable:
    """What `load` takes as engine.

    Raises:
        UsageError: an address for an engine that has none.
    """
    if checked_address(engine, address) is None:
        return engine
    from superlink.agents.ray.engine import RayEngine

    return RayEngine(address=address)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"superlink {superlink.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One multimodal LLM drives separate vision decoders through super-links."""


@app.command("ask")
def ask(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE... INSTRUCTION", help="Picture files, then what to do with each."),
    ],
    model: Model = "tiny",
    engine: EngineName = "local",
    address: Address = None,
    json: Json = False,
    out: Out = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point", metavar="X,Y", help="A click; the instruction calls it region1, region2, ..."
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="X0,Y0,X1,Y1", help="A rectangle, numbered after the clicks."),
    ] = None,
    no_image: Annotated[
        bool, typer.Option("--no-image", help="Ask about no picture, for example to have one painted.")
    ] = False,
    threshold: Threshold = None,
    steps: Steps = None,
    guidance: Guidance = None,
    image_guidance: ImageGuidance = None,
    size: Size = None,
    seed: Seed = 0,
    max_new_tokens: MaxNewTokens = None,
    debug: Debug = False,
) -> None:
    """Ask about pictures: superlink ask scene.png "Find every red circle and outline the star."

    Several pictures are one batch. A picture that cannot be used does not stop the others; the exit
    code is then 1.
    """
    from superlink.ask_command import Question, run

    *images, instruction = arguments
    if no_image and images:
        raise typer.BadParameter(f"with --no-image there is an instruction alone, got {images[0]!r} too")
    if not images and not no_image:
        raise typer.BadParameter(
            f"name at least one picture and then the instruction, got only {instruction!r}; "
            "--no-image asks without one",
            param_hint="IMAGE... INSTRUCTION",
        )
    points, boxes = [parse_point(text) for text in point or ()], [parse_box(text) for text in box or ()]
    options = decoder_options(steps=steps, guidance=guidance, image_guidance=image_guidance, size=size)
    with one_line_errors(debug=debug), own_stdout():
        question = Question(
            images=tuple(images),
            instruction=instruction,
            model=model,
            engine=chosen_engine(engine, address),
            prompts=(*points, *boxes),
            threshold=threshold,
            options=options,
            seed=seed,
            max_new_tokens=max_new_tokens,
        )
        failures = run(question, json=json, out=out)
    if failures:
        raise typer.Exit(1)


@app.command("chat")
def chat(
    image: Annotated[str | None, typer.Argument(help="A picture to start with.")] = None,
    model: Model = "tiny",
    engine: EngineName = "local",
    address: Address = None,
    json: Json = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that /save writes to.")] = Path("out"),
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Folder of a talk to go on with, written by /keep.")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option("--session", help="Name of a talk that is saved after every question and gone on with."),
    ] = None,
    store: Store = None,
    threshold: Threshold = None,
    steps: Steps = None,
    guidance: Guidance = None,
    image_guidance: ImageGuidance = None,
    size: Size = None,
    seed: Seed = 0,
    max_new_tokens: MaxNewTokens = None,
    debug: Debug = False,
) -> None:
    """Talk about a picture over several rounds; /help lists what else can be typed.

    Questions are read from standard input, one a line, so that it also works in a pipe.
    """
    from superlink.chat_command import run

    if session is not None and resume is not None:
        raise typer.BadParameter("a talk goes on by --session or by --resume, not both")
    if store is not None and session is None:
        raise typer.BadParameter("--store says where a --session is kept; name that, too")
    options = decoder_options(steps=steps, guidance=guidance, image_guidance=image_guidance, size=size)
    with one_line_errors(debug=debug), own_stdout():
        failures = run(
            image=image,
            model=model,
            engine=chosen_engine(engine, address),
            json=json,
            out=out,
            resume=resume,
            name=session,
            store=store,
            threshold=threshold,
            options=options,
            seed=seed,
            max_new_tokens=max_new_tokens,
        )
    if failures:
        raise typer.Exit(1)


@app.command("serve")
def serve(
    model: Model = "tiny",
    engine: EngineName = "local",
    address: Address = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; 0.0.0.0 lets others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 = any free one.")] = 8000,
    store: Store = None,
    json: Annotated[bool, typer.Option("--json", help="Tell the address as one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Answer questions over HTTP: curl --data-binary @scene.png 'http://127.0.0.1:8000/ask?text=Find+every+star'

    GET / tells what runs; docs/serving.md has everything that can be sent.
    """
    from superlink.serve_command import run

    with one_line_errors(debug=debug), own_stdout():
        run(model=model, engine=chosen_engine(engine, address), host=host, port=port, store=store, json=json)


sessions = typer.Typer(
    help="Talks that were saved by name: list, show, export, delete.", no_args_is_help=True
)
app.add_typer(sessions, name="sessions")
SessionName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a session.")]


@sessions.command("list")
def sessions_list(store: Store = None, json: Json = False, debug: Debug = False) -> None:
    """Every session with its rounds, its pictures and when it was last saved."""
    from superlink.sessions_command import list_sessions

    with one_line_errors(debug=debug):
        list_sessions(store, json=json)


@sessions.command("show")
def sessions_show(name: SessionName, store: Store = None, json: Json = False, debug: Debug = False) -> None:
    """What was asked and answered."""
    from superlink.sessions_command import show_session

    with one_line_errors(debug=debug):
        show_session(store, name, json=json)


@sessions.command("export")
def sessions_export(
    name: SessionName,
    folder: Annotated[Path, typer.Argument(help="Where to; chat --resume goes on with it.")],
    store: Store = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a page with drawings, the pictures and everything that was said to a folder."""
    from superlink.sessions_command import export_session

    with one_line_errors(debug=debug):
        export_session(store, name, folder, json=json)


@sessions.command("delete")
def sessions_delete(
    name: SessionName,
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Forget a session, and the pictures that no other one speaks of."""
    from superlink.sessions_command import delete_session

    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete session {name!r}?", abort=True)
    with one_line_errors(debug=debug):
        delete_session(store, name, json=json)


@app.command("run")
def run_workflow(
    workflow: Annotated[Path, typer.Argument(help="A workflow, as YAML or JSON.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of pictures; those below it are taken along.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="coco, csv, fiftyone, jsonl, labelme, png or yolo.")
    ] = "jsonl",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an earlier run left in --out.")
    ] = False,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", min=0, help="Stop when more pictures failed.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Pictures on their way at the same time; more is faster, and may change a last digit.",
        ),
    ] = 1,
    describe: Annotated[
        bool, typer.Option("--describe", help="Only print inputs, outputs, steps and schemas, as JSON.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object at the end: what was done, what failed and why, the files."
        ),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="MODULE", help="A module whose functions the file may use."),
    ] = None,
    model: Model = "tiny",
    engine: EngineName = "local",
    address: Address = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Run a workflow on a folder: superlink run workflow.yaml --images photos --out results.

    A picture that fails does not stop the others; the exit code is then 1. Killed and started again with
    --resume, it goes on with what is not done.
    """
    if not describe and (images is None or out is None):
        raise typer.BadParameter("name --images and --out, or --describe the workflow")
    from superlink.run_command import Job
    from superlink.run_command import describe as print_description
    from superlink.run_command import run as run_job

    with one_line_errors(debug=debug), own_stdout():
        if describe or images is None or out is None:
            print_description(workflow, tuple(allow or ()))
            return
        job = Job(
            workflow=workflow,
            images=images,
            out=out,
            model=model,
            engine=engine,
            address=checked_address(engine, address),
            format=format,
            resume=resume,
            max_failures=max_failures,
            jobs=jobs,
            seed=seed,
            allow=tuple(allow or ()),
        )
        failures = run_job(job, json=json)
    if failures:
        raise typer.Exit(1)


@app.command("train", context_settings=MOUNTED, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train router and decoders together: superlink train RECIPE."""
    from superlink.workflows.train.command import app as command

    with one_line_errors(debug="--debug" in context.args), own_stdout():
        command(args=context.args, prog_name="superlink train")


@app.command("eval", context_settings=MOUNTED, add_help_option=False)
def evaluate(context: typer.Context) -> None:
    """Measure a model: superlink eval TASK."""
    from superlink.workflows.eval.command import app as command

    with one_line_errors(debug="--debug" in context.args):
        command(args=context.args, prog_name="superlink eval")
