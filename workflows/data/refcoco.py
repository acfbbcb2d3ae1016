"""Referring expressions as training samples: one object, named in words.

    RefCocoSamples("refcoco_train.json", "train2014", tasks=("ground", "segment"))[0]

The file is a COCO file in which every image entry carries a list `expressions` and stands for one
object: exactly one annotation has its id. An expression is lower-cased and loses its punctuation
and a leading article, which is how phrases stand in answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np

from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.asking import TOKENS, asking
from superlink.workflows.data.coco import artifact_of
from superlink.workflows.data.coco_file import CocoAnnotation, CocoImage, read_coco, spoken
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import Phrase
from superlink.workflows.data.samples import Sample, Target

ReferringTask = Literal["ground", "segment"]


Referred = tuple[CocoImage, CocoAnnotation, tuple[str, ...]]  # an object and its phrases


def read_referring(
    path: str | Path, images: str | Path, *, skip_bad: bool = False
) -> tuple[list[Referred], tuple[str, ...]]:
    """Every object that is named in words, and why records were left out.

    Args:
        path: the JSON file.
        images: folder that its file names start from.
        skip_bad: leave out records that cannot be used.

    Raises:
        DataError: a record that cannot be used, or no object.
    """
    found = read_coco(path, images, skip_bad=skip_bad)
    skipped = list(found.skipped)
    items: list[Referred] = []
    for image in found.images:
        try:
            items.append((image, _only(image, found.annotations[image.id]), _expressions(image)))
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
    if not items:
        raise DataError(f"{path}: has no expression that can be used")
    return items, tuple(skipped)


class RefCocoSamples:
    """One sample an image entry, with one of its expressions; implements `Dataset`.

    Args:
        path: the JSON file.
        images: folder that its file names start from.
        tasks: "ground" asks for the box ([GRD]), "segment" for the mask ([SEG]); drawn evenly.
        seed: of expressions and wordings.
        split: of the instruction templates.
        skip_bad: leave out records that cannot be used; `skipped` then says why.

    Raises:
        DataError: a record that cannot be used, or no image.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path,
        *,
        tasks: Sequence[ReferringTask] = ("ground",),
        seed: int = 0,
        split: Split = "train",
        skip_bad: bool = False,
    ) -> None:
        self._items, self.skipped = read_referring(path, images, skip_bad=skip_bad)
        if not tasks:
            raise DataError("RefCocoSamples needs at least one task")
        self._tasks = tuple(tasks)
        self._seed = seed
        self._split: Split = split

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rng = Random(f"refcoco:{self._seed}:{self._split}:{index}")
        image, row, expressions = self._items[index]
        task = rng.choice(self._tasks)
        name = rng.choice(expressions)
        token = TOKENS[task]
        pixels = image.pixels()
        text = asking(rng, task, self._split, [Phrase(noun=name, is_one=True)])
        target = artifact_of(task, image, [row], np.zeros(1, np.int64), (name,))
        return Sample(
            conversation=(
                Message(role="user", text=text, images=(pixels,)),
                Message(role="assistant", text=answer([(token, name)])),
            ),
            image=pixels,
            targets=(Target(token=token, artifact=target),),
            task=task,
            source=image.where,
        )


def phrase_of(expression: str, where: str) -> str:
    """An expression as a phrase: "The man, in red!" becomes "man in red".

    Raises:
        DataError: no words are left.
    """
    words = spoken(re.sub(r"[^\w\s'-]", " ", expression), where)
    return re.sub(r"^(the|a|an) (?=\S)", "", words)


def _only(image: CocoImage, rows: Sequence[CocoAnnotation]) -> CocoAnnotation:
    if len(rows) != 1:
        raise DataError(f"{image.where}: expressions stand for one object, got {len(rows)} annotations")
    return rows[0]


def _expressions(image: CocoImage) -> tuple[str, ...]:
    found = image.record.get("expressions")
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise DataError(f"{image.where}: 'expressions' is {found!r}, expected a list of sentences")
    return tuple(dict.fromkeys(phrase_of(one, image.where) for one in found))
