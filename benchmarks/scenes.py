"""Scenes of the shapes world drawn in a second by one core. Prints one JSON object.

    python benchmarks/scenes.py [--count 300] [--side 224]

A scene is sampled and rendered, and the outlines and boxes of its objects are read, as a sample of training
does. Seconds are CPU time of this process, so other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from benchmarks.report import Stopwatch, surroundings
from superlink.workflows.data.shapes import Scene, SceneConfig

TARGET = 100.0  # scenes a second


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=300, help="scenes")
    parser.add_argument("--side", type=int, default=224, help="pixels of a side")
    options = parser.parse_args(arguments)
    config = SceneConfig(height=options.side, width=options.side)
    objects = 0
    watch = Stopwatch()
    for seed in range(options.count):
        scene = Scene.generate(seed, config)
        scene.image()
        objects += len(scene.objects)
    seconds = watch.read()
    report = {
        "benchmark": "scenes",
        "scenes": options.count,
        "side": options.side,
        "objects": objects,
        "per_second_of_a_core": round(options.count / seconds.cpu, 1),
        "target": TARGET,
        **surroundings(),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
