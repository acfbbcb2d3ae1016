"""COCO keypoints as training samples: objects, and the places of their named parts.

    KeypointSamples("person_keypoints_train2017.json", "train2017")[0]

The names of keypoints are the list `keypoints` of a category. Categories with one list (the species of
an animal set) can be asked for together, since a call has one list of keypoints. Half of the time all
keypoints are asked for, shuffled; else some of them. Source of the sampling: VisionLLM v2, appendix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from superlink.decoders.artifacts import Keypoints
from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.asking import asking
from superlink.workflows.data.coco import class_list
from superlink.workflows.data.coco_file import (
    OUTSIDE,
    CocoAnnotation,
    CocoFile,
    CocoImage,
    is_number,
    place_of,
    read_coco,
    spoken,
)
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import Phrase, joined
from superlink.workflows.data.samples import Sample, Target

# After the question for the objects, as in VisionLLM v2: both in one turn.
QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": (
        "And mark the keypoints of each: {}.",
        "Then locate {} of each one.",
        "Show where {} are on each of them.",
        "Also find {} of every one.",
        "For each one, point out {}.",
        "Estimate the pose of each, with {}.",
        "Then give me the keypoints {}.",
        "Locate these parts of each too: {}.",
    ),
    "heldout": (
        "What is the pose of each one? I need {}.",
        "Put a dot on {} of every one of them.",
    ),
}

Row = tuple[CocoAnnotation, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]  # with its (K, 3) points


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeypointFile:
    items: tuple[tuple[CocoImage, tuple[Row, ...]], ...]  # images that have objects with keypoints
    names: Mapping[int, str]  # of the categories
    parts: Mapping[int, tuple[str, ...]]  # keypoints of each category; none where it has no list
    skipped: tuple[str, ...]  # why records were left out


def read_keypoints(path: str | Path, images: str | Path, *, skip_bad: bool = False) -> KeypointFile:
    """Read and check a file.

    Args:
        path: the JSON file.
        images: folder that its file names start from.
        skip_bad: leave out records that cannot be used.

    Raises:
        DataError: a record that cannot be used, no category with keypoints, or no image with an object.
    """
    found = read_coco(path, images, skip_bad=skip_bad)
    parts = {key: _parts(found, key) for key in found.names}
    if not any(parts.values()):
        raise DataError(f"{path}: no category has a list 'keypoints' with the names of its keypoints")
    skipped = list(found.skipped)
    items: list[tuple[CocoImage, tuple[Row, ...]]] = []
    for image in found.images:
        rows: list[Row] = []
        for row in found.annotations[image.id]:
            if not parts[row.category]:
                continue
            try:
                rows.append((row, _points(row, image, parts[row.category])))
            except DataError as error:
                if not skip_bad:
                    raise
                skipped.append(str(error))
        if rows:
            items.append((image, tuple(rows)))
    if not items:
        raise DataError(f"{path}: has no image with keypoints that can be used")
    return KeypointFile(items=tuple(items), names=found.names, parts=parts, skipped=tuple(skipped))


def keypoints_of(
    image: CocoImage,
    rows: Sequence[Row],
    classes: Mapping[int, str],
    parts: Sequence[str],
    chosen: Sequence[int],
) -> Keypoints:
    """The keypoints of an image's objects; scores are ones.

    Args:
        rows: its objects; those of other classes are left out.
        classes: names by category; label k is the k-th of them.
        parts: the keypoints that all these classes have.
        chosen: indices of those that are asked for, in this order.
    """
    kept = [(row, points) for row, points in rows if row.category in classes]
    order = list(classes)
    return Keypoints(
        xyv=np.stack([points[list(chosen)] for _, points in kept]),
        keypoint_names=tuple(parts[k] for k in chosen),
        xyxy=np.asarray([row.xyxy for row, _ in kept], np.float32),
        scores=np.ones(len(kept), np.float32),
        labels=np.asarray([order.index(row.category) for row, _ in kept], np.int64),
        names=tuple(classes.values()),
        size=image.size,
    )


class KeypointSamples:
    """One sample an image that has objects with keypoints; implements `Dataset`.

    Args:
        path: the JSON file.
        images: folder that its file names start from.
        seed: of class lists, keypoints and wordings.
        split: of the wordings.
        most_classes: longest class list of one sample.
        most_keypoints: longest list of keypoints of one sample; the decoder's limit.
        skip_bad: leave out records that cannot be used; `skipped` then says why.

    Raises:
        DataError: a record that cannot be used, no category with keypoints, or no image with an object.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path,
        *,
        seed: int = 0,
        split: Split = "train",
        most_classes: int = 100,
        most_keypoints: int = 68,
        skip_bad: bool = False,
    ) -> None:
        found = read_keypoints(path, images, skip_bad=skip_bad)
        self._items, self._names, self._parts = found.items, found.names, found.parts
        self.skipped = found.skipped
        self._seed = seed
        self._split: Split = split
        self._most = most_classes
        self._most_keypoints = most_keypoints

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rng = Random(f"keypoints:{self._seed}:{self._split}:{index}")
        image, rows = self._items[index]
        parts = rng.choice(sorted({self._parts[row.category] for row, _ in rows}))
        known = [key for key, own in self._parts.items() if own == parts]
        present = sorted({row.category for row, _ in rows if self._parts[row.category] == parts})
        classes = class_list(rng, present, known, self._most)
        chosen = _keypoint_list(rng, len(parts), self._most_keypoints)
        target = keypoints_of(image, rows, {key: self._names[key] for key in classes}, parts, chosen)
        names, asked = target.names, target.keypoint_names
        pixels = image.pixels()
        routed = [("[DET]", name) for name in names] + [("[POSE]", name) for name in asked]
        return Sample(
            conversation=(
                Message(role="user", text=self._question(rng, names, asked), images=(pixels,)),
                Message(role="assistant", text=answer(routed)),
            ),
            image=pixels,
            targets=(Target(token="[POSE]", artifact=target),),
            task="keypoints",
            source=image.where,
        )

    def _question(self, rng: Random, names: Sequence[str], asked: Sequence[str]) -> str:
        objects = asking(rng, "detect", self._split, [Phrase(noun=name) for name in names])
        end = "" if objects[-1:] in ".?!" else "."
        said = joined(rng, [f"the {name}" for name in asked])
        return f"{objects}{end} {rng.choice(QUESTIONS[self._split]).format(said)}"


def _keypoint_list(rng: Random, known: int, most: int) -> list[int]:
    """Which keypoints to ask for, in random order: half of the time all, else at least one."""
    count = known if rng.random() < 0.5 else rng.randint(1, known)
    return rng.sample(range(known), min(count, most))


def _parts(file: CocoFile, category: int) -> tuple[str, ...]:
    """Names of the keypoints of a category, as a person would say them; none where it has no list."""
    where = f"{place_of(file.path)}, category {category}"
    names = file.categories[category].get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: 'keypoints' is {names!r}, expected a list of names")
    said = tuple(spoken(name, where) for name in names)
    if len(set(said)) < len(said):
        raise DataError(f"{where}: two keypoints have one name")
    return said


def _points(
    row: CocoAnnotation, image: CocoImage, parts: Sequence[str]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(K, 3) x, y, visibility; zeros where a keypoint is not labelled.

    Raises:
        DataError: not three numbers for each name, or a keypoint outside of the picture.
    """
    numbers = row.record.get("keypoints")
    if not isinstance(numbers, list) or len(numbers) != 3 * len(parts):
        found = len(numbers) if isinstance(numbers, list) else repr(numbers)
        raise DataError(
            f"{row.where}: 'keypoints' has {found} numbers, expected 3 x {len(parts)}: x, y and visibility"
        )
    if not all(is_number(number) for number in numbers):
        raise DataError(f"{row.where}: 'keypoints' has something that is no number")
    points = np.asarray(numbers, np.float64).reshape(-1, 3)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        bad = points[~np.isin(points[:, 2], (0, 1, 2)), 2][0]
        raise DataError(f"{row.where}: a visibility is {bad:g}, expected 0, 1 or 2")
    seen = points[:, 2] > 0
    height, width = image.size
    far = np.array([width, height], np.float64)
    outside = seen & ((points[:, :2] < -OUTSIDE) | (points[:, :2] > far + OUTSIDE)).any(1)
    if outside.any():
        k = int(outside.argmax())
        raise DataError(
            f"{row.where}: {parts[k]!r} at {points[k, :2].tolist()} lies outside of its picture of "
            f"width {width} and height {height}"
        )
    places = np.where(seen[:, None], points[:, :2].clip(0, far), 0.0)
    return np.concatenate([places, points[:, 2:]], axis=1).astype(np.float32)
