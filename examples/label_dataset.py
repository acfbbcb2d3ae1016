"""Label a folder of pictures as a COCO dataset: python examples/label_dataset.py photos dataset

The same from a file, with a progress bar:

    superlink run dataset/labels.yaml --images photos --out more --format coco --resume
"""

from __future__ import annotations

import sys
from pathlib import Path

from superlink import Image, Workflow, steps
from superlink.workflows.graph.folders import run_folder


def workflow() -> Workflow:
    """Boxes of what is to be labelled, without those that are not sure."""
    wf = Workflow("label_dataset")
    photo = wf.input("photo", Image)
    found = steps.detect("circle", "star", "square", retry=1)(photo)
    wf.output("labels", steps.filter(score=0.5)(found))
    return wf


def main(images: str, out: str, *, model: str | Path = "tiny") -> None:
    wf = workflow().using(system=model)
    wf.save(Path(out) / "labels.yaml")
    summary = run_folder(wf, Path(images), Path(out), format="coco", resume=True, about=str(model))
    print(f"{summary.total} pictures, {len(summary.failed)} failed:", *summary.files)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("name two folders: python examples/label_dataset.py PHOTOS DATASET")
    main(*sys.argv[1:3])
