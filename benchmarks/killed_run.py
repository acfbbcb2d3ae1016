"""A run over a folder that is killed half-way and resumed, against an unbroken one. Prints one JSON object.

    python benchmarks/killed_run.py [--pictures 200] [--formats coco csv jsonl labelme png yolo]

For every format the real command runs three times on small pictures: whole, killed with SIGKILL as soon as
half of the pictures have results, and once more with --resume. What the two folders then hold is compared
byte by byte.

One picture is asked about at a time, since which pictures meet in a batch is a matter of time. Even so a
processor may round a sum otherwise in another process, depending on where in memory its numbers lie:
"identical" says whether all bytes are the same, "equal" whether numbers in text may be off by 1e-5 of
themselves and nothing else, and "most_apart" how far they are.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # when it is run by its path

from benchmarks.report import surroundings
from superlink.decoders.writers.records import Records

FORMATS = ("coco", "csv", "jsonl", "labelme", "png", "yolo")
ROUNDING = 1e-5  # of a number, in single precision through a whole model
NUMBER = re.compile(rb"-?\d+(?:\.\d+(?:e-?\d+)?|e-?\d+)")
WORKFLOW = """\
version: 1
name: shapes
inputs: {photo: {type: Image}}
steps:
  found: {use: detect, with: {phrases: [red circle]}, in: {image: photo}}
  number: {use: count, in: {items: found}}
outputs: {found: found, number: number}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS, metavar="FORMAT")
    parser.add_argument("--model", default=str(ROOT / "superlink/weights/tiny"), help="a model folder")
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--jobs", type=int, default=1, help="pictures on their way at the same time")
    parser.add_argument("--patience", type=float, default=3600, help="seconds that one command may take")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), model=given.model, jobs=given.jobs, patience=given.patience)
        paint(run.folder / "photos", given.pictures, given.side)
        found = {format: run.compared(format, given.pictures) for format in given.formats}
    report: dict[str, Any] = {"benchmark": "killed_run", "pictures": given.pictures, "jobs": given.jobs}
    report |= {key: all(one[key] for one in found.values()) for key in ("equal", "identical")}
    report["formats"] = found
    print(json.dumps(report | surroundings()))


def paint(folder: Path, number: int, side: int) -> None:
    """Pictures of one red circle each, somewhere."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(number):
        picture = Image.new("RGB", (side, side), (235, 235, 235))
        x, y = (int(one) for one in rng.integers(0, side // 2, 2))
        ImageDraw.Draw(picture).ellipse((x, y, x + side // 3, y + side // 3), fill=(220, 30, 30))
        picture.save(folder / f"{index:04}.png")


class Run:
    """The command in one folder."""

    def __init__(self, folder: Path, *, model: str, jobs: int, patience: float) -> None:
        self.folder, self._patience = folder, patience
        (folder / "workflow.yaml").write_text(WORKFLOW)
        self._command = [sys.executable, "-m", "superlink", "run", "workflow.yaml", "--images", "photos"]
        self._command += ["--model", model, "--jobs", str(jobs), "--json"]

    def compared(self, format: str, pictures: int) -> dict[str, Any]:
        """One format: what the killed run had done, and whether it came to the same in the end."""
        start = time.perf_counter()
        whole = self._finished(format, f"{format}-whole")
        seconds = time.perf_counter() - start
        self._killed(format, f"{format}-cut", pictures // 2)
        resumed = self._finished(format, f"{format}-cut", "--resume")
        first, second = files_of(self.folder / f"{format}-whole"), files_of(self.folder / f"{format}-cut")
        differ = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        apart = [distance(first.get(name, b""), second.get(name, b"")) for name in differ]
        done = resumed["done"] == whole["done"] == pictures
        return {
            "equal": done and first.keys() == second.keys() and max(apart, default=0.0) <= ROUNDING,
            "identical": done and not differ,
            "most_apart": max(apart, default=0.0),
            "differ": {name: difference(first.get(name, b""), second.get(name, b"")) for name in differ[:10]},
            "files": len(first),
            "bytes": sum(map(len, first.values())),
            "done_before_the_kill": resumed["skipped"],
            "seconds_of_the_whole_run": round(seconds, 1),
        }

    def _finished(self, format: str, out: str, *more: str) -> dict[str, Any]:
        command = [*self._command, "--format", format, "--out", out, *more]
        result = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, check=False, timeout=self._patience
        )
        if not result.stdout:
            raise RuntimeError(f"the run ended with {result.returncode}; what it said is above")
        summary: dict[str, Any] = json.loads(result.stdout)
        for one in summary["failed"]:
            raise RuntimeError(f"{one['image']}: {one['error']}")
        return summary

    def _killed(self, format: str, out: str, records: int) -> None:
        command = [*self._command, "--format", format, "--out", out]
        kept = self.folder / out / ".records" / format
        child = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        begin = time.monotonic()
        try:
            while len(Records(kept).heads) < records:  # finished ones: one more may just be begun
                if child.poll() is not None:
                    raise RuntimeError(f"the run ended with {child.returncode} before it could be killed")
                if time.monotonic() - begin > self._patience:
                    raise TimeoutError(f"no {records} results after {self._patience:.0f} seconds")
                time.sleep(0.05)
        finally:
            child.kill()  # SIGKILL: nothing of it can still put things in order
            child.wait()


def files_of(folder: Path) -> dict[str, bytes]:
    """What a run leaves for people, by path."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    shown = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    return {path.as_posix(): (folder / path).read_bytes() for path in shown}


def distance(first: bytes, second: bytes) -> float:
    """How far numbers in two texts are apart, relative to themselves; infinite if anything else differs."""
    if NUMBER.sub(b"#", first) != NUMBER.sub(b"#", second):
        return math.inf
    pairs = zip(NUMBER.findall(first), NUMBER.findall(second), strict=True)
    numbers = [(float(a), float(b)) for a, b in pairs if a != b]
    return max((abs(a - b) / max(abs(a), abs(b)) for a, b in numbers if a != b), default=0.0)


def difference(first: bytes, second: bytes) -> list[str]:
    """What stands around the first byte that is not the same."""
    pairs = zip(first, second, strict=False)
    place = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
    return [repr(one[max(place - 60, 0) : place + 60]) for one in (first, second)]


if __name__ == "__main__":
    main()
