"""COCO detection and instance segmentation as training samples.

    CocoSamples("instances_train2017.json", "train2017", tasks=("detect", "segment"))[0]

A sample asks for a list of classes ("Find every person and dog."): half of the time all of them,
else those in the picture and some that are not. The answer lists every class that was asked for;
the decoder learns which are there. Source of the sampling: VisionLLM v2, class lists in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np

from superlink.decoders.artifacts import Artifact, Boxes, Masks, tight_boxes
from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.asking import TOKENS, asking
from superlink.workflows.data.coco_file import CocoAnnotation, CocoImage, read_coco
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import Phrase
from superlink.workflows.data.samples import Sample, Target

ClassTask = Literal["detect", "segment"]


class CocoSamples:
    """One sample an image; implements `Dataset`.

    Args:
        path: the JSON file.
        images: folder that its file names start from.
        tasks: what a sample may ask for; drawn evenly.
        seed: of class lists and wordings; another seed gives other samples of the same images.
        split: of the instruction templates.
        most_classes: longest class list of one sample.
        skip_bad: leave out records that cannot be used; `skipped` then says why.

    Raises:
        DataError: a record that cannot be used, or no image.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path,
        *,
        tasks: Sequence[ClassTask] = ("detect",),
        seed: int = 0,
        split: Split = "train",
        most_classes: int = 100,
        skip_bad: bool = False,
    ) -> None:
        self._file = read_coco(path, images, skip_bad=skip_bad)
        if not self._file.images:
            why = f" that can be used; the first: {self._file.skipped[0]}" if self._file.skipped else ""
            raise DataError(f"{path}: has no images{why}")
        if not tasks or most_classes < 1:
            raise DataError("CocoSamples needs at least one task and one class to ask for")
        self._tasks = tuple(tasks)
        self._seed = seed
        self._split: Split = split
        self._most = most_classes

    @property
    def skipped(self) -> tuple[str, ...]:
        """Why records were left out."""
        return self._file.skipped

    def __len__(self) -> int:
        return len(self._file.images)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rng = Random(f"coco:{self._seed}:{self._split}:{index}")
        image = self._file.images[index]
        rows = self._file.annotations[image.id]
        task = rng.choice(self._tasks)
        classes = class_list(rng, sorted({row.category for row in rows}), list(self._file.names), self._most)
        rows = tuple(row for row in rows if row.category in classes)
        names = tuple(self._file.names[key] for key in classes)
        pixels = image.pixels()
        text = asking(rng, task, self._split, [Phrase(noun=name) for name in names])
        token = TOKENS[task]
        labels = np.asarray([classes.index(row.category) for row in rows], np.int64)
        return Sample(
            conversation=(
                Message(role="user", text=text, images=(pixels,)),
                Message(role="assistant", text=answer([(token, name) for name in names])),
            ),
            image=pixels,
            targets=(Target(token=token, artifact=artifact_of(task, image, rows, labels, names)),),
            task=task,
            source=image.where,
        )


def class_list(rng: Random, present: Sequence[int], known: Sequence[int], most: int) -> list[int]:
    """Classes to ask for, in random order.

    Half of the time all; else all present ones and a random number of absent ones, at least one
    where none is present. Never more than `most`; present ones go first when it has to be cut.
    """
    absent = [key for key in known if key not in set(present)]
    rng.shuffle(absent)
    if rng.random() >= 0.5:
        least = 0 if present else 1
        absent = absent[: rng.randint(min(least, len(absent)), len(absent))]
    chosen = [*rng.sample(present, len(present)), *absent][:most]
    rng.shuffle(chosen)
    return chosen


Labels = np.ndarray[tuple[int, ...], np.dtype[np.int64]]  # (N,), index into the names


def artifact_of(
    task: str, image: CocoImage, rows: Sequence[CocoAnnotation], labels: Labels, names: tuple[str, ...]
) -> Artifact:
    """Masks for "segment", boxes otherwise; scores are ones."""
    return (masks_of if task == "segment" else boxes_of)(image, rows, labels, names)


def boxes_of(
    image: CocoImage, rows: Sequence[CocoAnnotation], labels: Labels, names: tuple[str, ...]
) -> Boxes:
    """The boxes of some annotations of an image; scores are ones."""
    xyxy = np.asarray([row.xyxy for row in rows], np.float32).reshape(-1, 4)
    scores = np.ones(len(rows), np.float32)
    return Boxes(xyxy=xyxy, scores=scores, labels=labels, names=names, size=image.size)


def masks_of(
    image: CocoImage, rows: Sequence[CocoAnnotation], labels: Labels, names: tuple[str, ...]
) -> Masks:
    """The masks of some annotations of an image, in tight boxes; scores are ones.

    Raises:
        DataError: an annotation has none, or one that does not fit the picture.
    """
    masks = np.zeros((len(rows), *image.size), bool)
    for k, row in enumerate(rows):
        masks[k] = row.mask(image.size)
    boxes, scores = tight_boxes(masks), np.ones(len(rows), np.float32)
    return Masks(masks=masks, xyxy=boxes, scores=scores, labels=labels, names=names, size=image.size)
