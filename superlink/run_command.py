"""What `superlink run` does: a workflow from a file over a folder of pictures."""

from __future__ import annotations

import json as json_format
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from superlink.agents.embedded import model_folder
from superlink.ask_command import open_system
from superlink.workflows.graph.folders import Place, Summary, run_folder
from superlink.workflows.graph.workflow import Workflow

if TYPE_CHECKING:
    from superlink.agents.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run."""

    workflow: Path
    images: Path
    out: Path
    model: str = "tiny"
    engine: str = "local"
    address: str | None = None  # of a Ray cluster
    format: str = "jsonl"
    resume: bool = False
    max_failures: int | None = None
    jobs: int = 1
    seed: int = 0
    allow: tuple[str, ...] = ()


def describe(path: Path, allow: Sequence[str]) -> None:
    """Print inputs, outputs, steps and schemas of a workflow as JSON."""
    data = loaded(path, allow).describe()
    sys.stdout.write(json_format.dumps(data, indent=2, ensure_ascii=False) + "\n")


def run(job: Job, *, json: bool = False) -> int:
    """Run a workflow over a folder and print what came of it: in words, or as one JSON object.

    Returns:
        How many pictures failed.

    Raises:
        SuperlinkError: nothing can be run at all.
    """
    workflow = loaded(job.workflow, job.allow)
    model_folder(job.model)  # an unknown one would fail every picture

    @cache
    def system() -> System:
        return open_system(job.model, "local", quiet=True)  # the bar below is shown meanwhile

    with progress() as (started, advance):
        summary = run_folder(
            workflow.using(seed=job.seed, system=system),
            job.images,
            job.out,
            format=job.format,
            resume=job.resume,
            max_failures=job.max_failures,
            max_concurrency=job.jobs,
            place=_place(job),
            about=f"{job.model}, seed {job.seed}",
            started=started,
            advance=advance,
        )
    if json:
        sys.stdout.write(json_format.dumps(summary.to_json()) + "\n")
    else:
        _report(summary)
    return len(summary.failed)


def _place(job: Job) -> Place | None:
    """Where pictures are worked on; None: in this process.

    Raises:
        ModelError: no such model.
    """
    if job.engine != "ray":
        return None
    from superlink.workflows.graph.ray_data import OnRay

    return OnRay(
        model=model_folder(job.model).resolve(), allow=job.allow, address=job.address, pictures=job.jobs
    )


def loaded(path: Path, allow: Sequence[str]) -> Workflow:
    """The workflow of a file; modules that may be used are looked for in the current folder too."""
    if allow and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return Workflow.load(path, allow=allow)


@contextmanager
def progress() -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """A bar with rate and time left on stderr, on terminals only.

    Yields what to tell the number of pictures and of those that are done, and what to tell each name.
    """
    if not sys.stderr.isatty():
        yield lambda total, skipped: None, lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("pictures"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("pictures", total=None, rate="", last="")
        begin, done = time.monotonic(), 0

        def started(total: int, skipped: int) -> None:
            bar.update(task, total=total, completed=skipped)

        def advance(name: str) -> None:
            nonlocal done
            done += 1
            rate = done / max(time.monotonic() - begin, 1e-9)
            bar.update(task, advance=1, rate=f"{rate:.2f}/s", last=name)

        yield started, advance


def _report(summary: Summary) -> None:
    """What came of it: failures on stderr, the rest on stdout."""
    for name, reason in summary.failed:
        sys.stderr.write(f"superlink: {name}: {reason}\n")
    earlier = f" ({summary.skipped} of them earlier)" if summary.skipped else ""
    undone = "" if not summary.stopped else "; stopped, since more failed than --max-failures"
    counted = f"{summary.done} of {summary.total} pictures done{earlier}"
    sys.stdout.write(f"{counted}, {len(summary.failed)} failed{undone}\n")
    if summary.failed:
        sys.stdout.write(f"--resume tries {'it' if len(summary.failed) == 1 else 'them'} again\n")
    for file in summary.files:
        sys.stdout.write(f"{file}\n")
