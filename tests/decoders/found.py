"""Results of pictures that nobody looked at, for tests of what is written of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, tight_boxes
from superlink.decoders.writers import Writer

SIZE = (48, 64)
POINTS = ("nose", "left eye", "right eye")


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def boxes(seed: int, *, names: tuple[str, ...] = ("star", "red circle"), rows: int = 3) -> Boxes:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 30, (rows, 2))
    xyxy = np.concatenate([low, low + rng.uniform(2, 15, (rows, 2))], axis=1).astype(np.float32)
    return Boxes(
        xyxy=xyxy,
        scores=rng.uniform(0.3, 1, rows).astype(np.float32),
        labels=rng.integers(0, len(names), rows),
        names=names,
        size=SIZE,
        origin=Origin(id="boxes-1", decoder="grounding_dino"),
    )


def masks(seed: int, *, rows: int = 2, name: str = "heart") -> Masks:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = rng.uniform(14, 34, (rows, 2))
    shapes = np.zeros((rows, *SIZE), bool)
    for row, (cx, cy) in enumerate(centres):
        shapes[row] = np.hypot(x - cx, y - cy) < rng.uniform(5, 12)
    return Masks(
        masks=shapes,
        xyxy=tight_boxes(shapes),
        scores=np.ones(rows, np.float32),
        labels=np.zeros(rows, np.int64),
        names=(name,),
        size=SIZE,
        origin=Origin(id="masks-1", decoder="sam"),
    )


def keypoints(*, points: tuple[str, ...] = POINTS) -> Keypoints:
    xyv = [[[8.0, 6.0, 2.0], [12.0, 3.0, 1.0], [0.0, 0.0, 0.0]][: len(points)]]
    return Keypoints(
        xyv=np.asarray(xyv, np.float32),
        keypoint_names=points,
        xyxy=np.asarray([[4, 2, 20, 40]], np.float32),
        scores=np.asarray([0.75], np.float32),
        labels=np.asarray([0]),
        names=("person",),
        size=SIZE,
        origin=Origin(id="keypoints-1", decoder="unipose"),
    )


Results = dict[str, list[Artifact]]


def written(writer: Writer, results: Results) -> Path:
    with writer:
        for seed, (name, artifacts) in enumerate(results.items()):
            writer.add(name, picture(seed), artifacts)
    return writer.folder


def mixed() -> Results:
    return {
        "b.png": [boxes(1), masks(2)],
        "a.jpg": [masks(3, rows=3)],
        "site/empty.png": [boxes(0, rows=0)],
        "c.png": [keypoints(), boxes(5, names=("person",))],
    }


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
