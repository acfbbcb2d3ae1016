"""How long a user waits: import, help, a cold `superlink ask` process, a warm ask. Prints one JSON object.

    python benchmarks/ask.py [--model tiny] [--runs 5]

Wall times depend on what else the machine does; CPU seconds (user + system) depend on it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

INSTRUCTION = "Find every red circle and outline the star."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny", help="an embedded model or a model folder")
    parser.add_argument("--runs", type=int, default=5, help="processes of each kind")
    options = parser.parse_args()
    python = [sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "scene.png"
        draw_scene().save(picture)
        ask = [
            *python,
            "-m",
            "superlink",
            "ask",
            str(picture),
            INSTRUCTION,
            "--json",
            "--model",
            options.model,
        ]
        report = {
            "import": processes([*python, "-c", "import superlink"], options.runs),
            "help": processes([*python, "-m", "superlink", "--help"], options.runs),
            "cold_ask": processes(ask, options.runs),
            "warm_ask": warm(options.model, picture, 5 * options.runs),
            "model": options.model,
            "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 2),
            "machine": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("torch", "transformers", "numpy", "superlink")},
            "commit": commit(),
        }
    sys.stdout.write(json.dumps(report) + "\n")


def draw_scene() -> Image.Image:
    scene = Image.new("RGB", (224, 224), "#d8e2e8")
    draw = ImageDraw.Draw(scene)
    draw.ellipse((20, 30, 80, 90), fill="red")
    draw.ellipse((130, 120, 180, 170), fill="red")
    draw.rectangle((120, 20, 180, 70), fill="blue")
    return scene


def processes(command: Sequence[str], runs: int) -> dict[str, Any]:
    """Seconds and peak memory of a command in processes of its own; the first run is not counted."""
    walls, cpus, peaks = [], [], []
    for _ in range(runs + 1):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        walls.append(time.perf_counter() - start)
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(command)} failed")
        cpus.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1024)
    return {
        "seconds_best": round(min(walls[1:]), 3),
        "seconds_median": round(statistics.median(walls[1:]), 3),
        "cpu_seconds_best": round(min(cpus[1:]), 3),
        "peak_mb": round(max(peaks), 1),
    }


def warm(model: str, picture: Path, runs: int) -> dict[str, Any]:
    """Seconds of an ask in a process that has asked before."""
    import superlink

    seconds = []
    with superlink.load(model) as system:
        for _ in range(2):
            turn = system.ask(INSTRUCTION, image=picture)
        for _ in range(runs):
            start = time.perf_counter()
            system.ask(INSTRUCTION, image=picture)
            seconds.append(time.perf_counter() - start)
    return {
        "seconds_best": round(min(seconds), 4),
        "seconds_median": round(statistics.median(seconds), 4),
        "text": turn.text[:200],
        "timings": {name: round(value, 4) for name, value in turn.timings.items()},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
