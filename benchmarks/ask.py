"""How long a user waits, and how much memory it takes: import, help, and an ask of every task. Prints one
JSON object.

    python benchmarks/ask.py [--model tiny|FOLDER] [--task all|find|...] [--forced] [--runs 5] [--threads 2]

A cold ask is a process of its own until its end, a little after its JSON; a warm one is `System.ask` in a
process that has asked before. Tasks that the model has no route for are left out.

A router that was not taught a task does not write its routing token, and nothing is measured then: see
`as_expected`. With --forced it writes the reply of a trained one, whatever the weights. Everything else is
as in an ask.

Wall times depend on what else the machine does; CPU seconds (user + system) depend on it less.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from benchmarks.report import Stopwatch, surroundings

if TYPE_CHECKING:
    from benchmarks.ask_tasks import Task

TASKS = ("find", "segment", "pose", "generate", "edit", "caption")
TARGETS = {
    "import_seconds": 0.3,
    "help_seconds": 0.5,
    "cold_seconds": 6.0,
    "cold_peak_mb": 1500.0,
    "warm_seconds": 0.5,
    "cold_seconds_of_painting": 8.0,  # whole family, pictures made too
    "cold_peak_mb_of_painting": 2000.0,
    "warm_seconds_of_generate": 6.0,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny", help="an embedded model or a model folder")
    parser.add_argument("--task", choices=("all", *TASKS), default="all")
    parser.add_argument("--forced", action="store_true", help="replies of a trained router, whatever it is")
    parser.add_argument("--runs", type=int, default=5, help="processes of each kind")
    parser.add_argument("--threads", type=int, help="of warm asks; by default what torch takes")
    options = parser.parse_args(arguments)
    python = sys.executable
    # A process counts what the one that starts it held at that moment as its own peak. So these come first,
    # and torch, which asking loads as well, comes here before the cold asks, but no model.
    started = {
        "import": process([python, "-c", "import superlink"], options.runs)[0],
        "help": process([python, "-m", "superlink", "--help"], options.runs)[0],
    }
    tasks, ids = questions(options.model, options.task)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "scene.png"
        draw_scene().save(picture)
        asked = {
            name: cold(options.model, task, picture, ids[name] if options.forced else None, options.runs)
            for name, task in tasks.items()
        }
    forced = ids if options.forced else None
    warmed = warm(options.model, tasks, forced, options.runs, options.threads)
    report = {
        "benchmark": "ask",
        "model": options.model,
        "replies": "forced: those of a trained router, through the same steps, links and decoders"
        if options.forced
        else "free: what the router writes",
        **started,
        "tasks": {name: {**asked[name], "warm": warmed["tasks"][name]} for name in tasks},
        "left_out": [name for name in TASKS if name not in tasks] if options.task == "all" else [],
        "warm_threads": warmed["threads"],
        "warm_peak_mb": warmed["peak_mb"],
        "targets": TARGETS,
        **surroundings(),
    }
    sys.stdout.write(json.dumps(report) + "\n")


def questions(model: str, wanted: str) -> tuple[dict[str, Task], dict[str, tuple[int, ...]]]:
    """The tasks to measure, and the ids of their replies."""
    from benchmarks.ask_tasks import tasks_of
    from superlink.agents.model_folder import read_outline

    router, tokenizer, decoders = read_outline(model)
    tasks = tasks_of(decoders)
    if wanted != "all":
        if wanted not in tasks:
            raise SystemExit(f"{model} has no decoder for {wanted!r}; its tasks are {', '.join(tasks)}")
        tasks = {wanted: tasks[wanted]}
    return tasks, {name: task.ids(router, tokenizer) for name, task in tasks.items()}


def draw_scene(number: int = 0) -> Image.Image:
    """Two red circles, a blue square, a star and a person; every number gives another picture."""
    scene = Image.new("RGB", (224, 224), "#d8e2e8")
    draw = ImageDraw.Draw(scene)
    draw.ellipse((20 + number % 20, 30, 80 + number % 20, 90), fill="red")
    draw.ellipse((10, 110 + number // 20, 50, 150 + number // 20), fill="red")
    draw.rectangle((130, 20, 180, 70), fill="blue")
    corners = [(math.pi * k / 5, (36, 14)[k % 2]) for k in range(10)]
    draw.polygon(
        [(160 + radius * math.sin(turn), 160 - radius * math.cos(turn)) for turn, radius in corners],
        fill="yellow",
    )
    draw.ellipse((82, 110, 102, 130), fill="black")
    for limbs in ((92, 130, 92, 170), (72, 160, 92, 140, 112, 160), (78, 205, 92, 170, 106, 205)):
        draw.line(limbs, fill="black", width=6)
    return scene


def process(command: Sequence[str], runs: int) -> tuple[dict[str, Any], str]:
    """Seconds and peak memory of a command in processes of its own, and what the last one printed.

    The first of several runs is not counted: it finds the files on the disk.
    """
    walls, cpus, peaks = [], [], []
    for _ in range(runs):
        watch = Stopwatch()
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(command, stdout=output)
            _, status, usage = os.wait4(child.pid, 0)
            walls.append(watch.read().wall)
            child.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            printed = output.read().decode()
        # An ask in which a decoder failed exits with 1 and says in its JSON what failed.
        if child.returncode and not printed:
            raise SystemExit(f"{' '.join(command)} failed")
        cpus.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1024)
    counted = slice(min(1, runs - 1), None)
    measured = {
        "seconds_best": round(min(walls[counted]), 3),
        "seconds_median": round(statistics.median(walls[counted]), 3),
        "cpu_seconds_best": round(min(cpus[counted]), 3),
        "peak_mb": round(max(peaks), 1),
    }
    return measured, printed


def cold(model: str, task: Task, picture: Path, forced: Sequence[int] | None, runs: int) -> dict[str, Any]:
    """An ask in processes of its own, and what came of it."""
    if forced is None:
        about = [str(picture)] if task.picture else ["--no-image"]
        command = ["-m", "superlink", "ask", *about, task.instruction, "--json"]
    else:
        script = Path(__file__).with_name("forced_ask.py")
        command = [str(script), task.instruction, "--ids", ",".join(map(str, forced))]
        command += ["--image", str(picture)] if task.picture else []
    measured, printed = process([sys.executable, *command, "--model", model], runs)
    answer = json.loads(printed)
    types = [artifact["type"] for artifact in answer["artifacts"]]
    return {
        "cold": measured,
        "text": answer["text"][:200],
        "artifacts": types,
        "failures": answer["failures"],
        "as_expected": not answer["failures"] and types == [task.returns] * bool(task.returns),
    }


def warm(
    model: str,
    tasks: dict[str, Task],
    forced: dict[str, tuple[int, ...]] | None,
    runs: int,
    threads: int | None,
) -> dict[str, Any]:
    """Asks in one process, each about a picture of its own: features of known pictures are kept."""
    import torch

    import superlink
    from superlink.router.requests import GenerateOptions

    before = torch.get_num_threads()
    found = {}
    with superlink.load(model, threads=threads) as loaded:
        for name, task in tasks.items():
            options = None if forced is None else GenerateOptions(forced=forced[name])
            system = superlink.System(loaded.engine, options=options)
            seconds = []
            for number in range(runs + 1):
                image = draw_scene(number) if task.picture else None
                watch = Stopwatch()
                turn = system.ask(task.instruction, image=image)
                seconds.append(watch.read())
            found[name] = {
                "seconds_best": round(min(one.wall for one in seconds[1:]), 4),
                "seconds_median": round(statistics.median(one.wall for one in seconds[1:]), 4),
                "cpu_seconds_median": round(statistics.median(one.cpu for one in seconds[1:]), 4),
                "timings": {part: round(value, 4) for part, value in turn.timings.items()},
            }
    used = torch.get_num_threads()
    torch.set_num_threads(before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tasks": found, "threads": used, "peak_mb": round(peak, 1)}


if __name__ == "__main__":
    main()
