"""`superlink eval coco`, `refcoco` and `keypoints`: a model on pictures and labels of the user's.

Questions have one plain wording, so that numbers of two models compare; it names what the labels of a picture
name. Everything else is as for the shapes world: the router writes by itself, a wrong phrase finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Generic, Literal, TypeVar

import numpy as np

from superlink.agents.asking import Question
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.router.errors import DataError, InputError
from superlink.workflows.data.coco import Labels, boxes_of, masks_of
from superlink.workflows.data.coco_file import CocoAnnotation, CocoImage, read_coco
from superlink.workflows.data.coco_keypoints import Row, keypoints_of, read_keypoints
from superlink.workflows.data.formats import DataFile, Format, check_answered, recognise
from superlink.workflows.data.refcoco import read_referring
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS
from superlink.workflows.eval import finding
from superlink.workflows.eval.answering import Answer, Progress, listed, question
from superlink.workflows.eval.finding import Asked, Kind
from superlink.workflows.eval.report import EvalReport, Metric

Task = Literal["coco", "refcoco", "keypoints"]
# A file of one format may hold what others do, too: people with keypoints also have boxes.
_READS: Mapping[Task, tuple[Format, ...]] = {
    "coco": ("coco", "coco-keypoints", "refcoco"),
    "refcoco": ("refcoco",),
    "keypoints": ("coco-keypoints",),
}
_LACKS: Mapping[Task, str] = {
    "coco": "images, annotations and categories",
    "refcoco": "'expressions' of its images",
    "keypoints": "categories with a list 'keypoints'",
}
# What a question says, and the words that it has a place for.
FIND, OUTLINE = "Find every {classes}.", "Outline every {classes}."
GROUND = "Find the {phrase}."
# "The keypoints" of somebody are COCO's; others have to be named.
POSE = "Find the keypoints of every {classes}."
POSE_NAMED = "Find every {classes} and mark the keypoints of each: {keypoints}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Which questions are asked about a file, and how."""

    count: int | None = None  # questions of each part at most; None = all
    seed: int = 0  # of which ones, where `count` leaves some out
    instruction: str | None = None  # in place of the plain wording of boxes, phrases or keypoints
    outline: str | None = None  # in place of that of masks
    every_class: bool = False  # ask for all classes of the file about each picture, not for those in it
    threshold: float | None = None  # least score of an item in 0..1; None = the decoder's own
    skip_bad: bool = False  # leave out records that cannot be used


Score = Callable[[Answer, Iterator[Asked[Kind]], int, Progress | None], list[Metric]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part(Generic[Kind]):
    """Questions that are scored together; a picture is read when its question is made."""

    name: str
    questions: Sequence[Callable[[], Asked[Kind]]]
    score: Score[Kind]

    def measured(
        self,
        answer: Answer,
        asking: Asking,
        skipped: list[str],
        *,
        batch: int = 8,
        progress: Progress | None = None,
    ) -> list[Metric]:
        """Ask everything and score it; why questions could not be made is added to `skipped`.

        Raises:
            DataError: a question cannot be made and that is not to be skipped, or none can.
        """
        return self.score(answer, self._read(asking, skipped, progress), batch, progress)

    def _read(self, asking: Asking, skipped: list[str], progress: Progress | None) -> Iterator[Asked[Kind]]:
        usable = 0
        for make in self.questions:
            try:
                asked = make()
            except DataError as error:
                if not asking.skip_bad:
                    raise
                skipped.append(str(error))
                if progress is not None:
                    progress(1)
                continue
            usable += 1
            yield replace(asked, question=replace(asked.question, threshold=asking.threshold))
        if not usable:
            raise DataError(
                f"{self.name}: none of {len(self.questions)} questions can be asked; {skipped[-1]}"
            )


AnyPart = Part[Boxes] | Part[Masks] | Part[Keypoints]


@dataclass(slots=True)
class Watched:
    """An answer that remembers which questions failed: they score as if nothing had been found.

    What is asked again for average precision, with another threshold, does not count.
    """

    answer: Answer
    threshold: float | None
    asked: int = 0
    failed: int = 0
    first: str = ""  # why the first of them failed

    def __call__(self, questions: Sequence[Question]) -> Sequence[Turn]:
        turns = self.answer(questions)
        for one, turn in zip(questions, turns, strict=True):
            if one.threshold != self.threshold:
                continue
            reasons = [turn.error] if turn.error else [failure.error for failure in turn.failures]
            self.asked += 1
            self.failed += bool(reasons)
            self.first = self.first or (reasons[0] if reasons else "")
        return turns


@dataclass(slots=True, kw_only=True, eq=False)
class OwnData:
    """What a file is asked about: made by `opened`."""

    task: Task
    file: DataFile
    asking: Asking
    parts: tuple[AnyPart, ...]
    # Why records and pictures were left out; grows while pictures are read.
    skipped: list[str] = field(default_factory=list)
    failed: str = ""  # how many questions failed, and why the first did

    def evaluate(
        self,
        answer: Answer,
        *,
        model: str = "",
        batch: int = 8,
        progress: Callable[[str, int], None] | None = None,
    ) -> EvalReport:
        """Ask everything.

        Args:
            answer: what is evaluated; `answering.answers_of(system)`.
            model: its name, for the report.
            batch: questions of one generation.
            progress: called with the part and the number of questions just answered.

        Raises:
            DataError: a picture cannot be read, or an outline is none.
            InputError: every single question failed.
        """
        start = time.monotonic()
        watched, metrics = Watched(answer, self.asking.threshold), list[Metric]()
        for part in self.parts:
            tell = None if progress is None else partial(progress, part.name)
            metrics += part.measured(watched, self.asking, self.skipped, batch=batch, progress=tell)
        if watched.failed:
            said = f"{watched.failed} of {watched.asked} questions failed; the first: {watched.first}"
            if watched.failed == watched.asked:
                raise InputError(said)
            self.failed = f"{said} (they count as if nothing had been found)"
        return EvalReport(
            task=self.task,
            model=model,
            seed=self.asking.seed,
            seconds=time.monotonic() - start,
            metrics=tuple(metrics),
            data=str(self.file.path),
        )


def opened(
    task: Task,
    path: str | Path,
    tokens: Collection[str],
    *,
    images: str | Path | None = None,
    asking: Asking | None = None,
) -> OwnData:
    """Read a file, and make the questions about it that a model can answer.

    Args:
        task: "coco", "refcoco" or "keypoints".
        path: the file, or a folder with exactly one.
        tokens: texts of the routing tokens that the model's decoders answer.
        images: folder of the pictures; None = the folder around in which most of them are.
        asking: which questions, and how; by default all.

    Raises:
        InputError: no such path, or no decoder of the model answers the task.
        DataError: the file has nothing for the task, or a record cannot be used.
    """
    asking = asking or Asking()
    file = recognise(path, images=images)
    if file.format not in _READS[task]:
        raise DataError(f"{file.path}: is {file.format!r}; superlink eval {task} needs {_LACKS[task]}")
    make = {"coco": _coco, "refcoco": _referring, "keypoints": _keypoints}[task]
    parts, skipped = make(file, frozenset(tokens), asking)
    return OwnData(task=task, file=file, asking=asking, parts=tuple(parts), skipped=skipped)


Made = tuple[list[AnyPart], list[str]]  # with why records were left out
Annotations = tuple[CocoAnnotation, ...]
Picture = tuple[CocoImage, Annotations, Annotations]  # objects and crowds
Truth = Callable[[CocoImage, Sequence[CocoAnnotation], Labels, tuple[str, ...]], Kind]


def _coco(file: DataFile, tokens: frozenset[str], asking: Asking) -> Made:
    check_answered(file, ("[DET]", "[SEG]"), tokens)
    found = read_coco(file.path, file.images, skip_bad=asking.skip_bad)
    pictures = [(one, found.annotations[one.id], found.groups.get(one.id, ())) for one in found.images]
    if not any(rows for _, rows, _ in pictures):
        raise DataError(f"{file.path}: has no picture with an annotation that can be used")
    known: Mapping[int, str] = found.names if asking.every_class else {}
    pictures = [one for one in pictures if one[1] or known]
    parts: list[AnyPart] = []
    skipped = list(found.skipped)

    def part(
        name: str, wording: str, some: list[Picture], truth: Truth[Kind], score: Score[Kind]
    ) -> Part[Kind]:
        ask = partial(_classes, wording, found.names, known, truth)
        return Part(name=name, questions=[partial(ask, *one) for one in _some(some, asking)], score=score)

    if "[DET]" in tokens:
        parts.append(part("boxes", asking.instruction or FIND, pictures, boxes_of, finding.boxes))
    # One object without an outline, and what the model outlines there would count as wrong.
    whole = [one for one in pictures if all(row.segmentation for row in (*one[1], *one[2]))]
    if "[SEG]" in tokens and any(rows for _, rows, _ in whole):
        parts.append(part("masks", asking.outline or OUTLINE, whole, masks_of, finding.masks))
        if lacking := len(pictures) - len(whole):
            skipped.append(f"masks: {lacking} of {len(pictures)} pictures have objects without an outline")
    if not parts:
        raise DataError(
            f"{file.path}: no picture has an outline of each object, and this model finds masks alone"
        )
    return parts, skipped


def _referring(file: DataFile, tokens: frozenset[str], asking: Asking) -> Made:
    check_answered(file, ("[GRD]",), tokens)
    items, skipped = read_referring(file.path, file.images, skip_bad=asking.skip_bad)
    phrases = [(image, row, phrase) for image, row, phrases in items for phrase in phrases]
    ask = partial(_phrase, asking.instruction or GROUND)
    questions = [partial(ask, *one) for one in _some(phrases, asking)]
    return [Part(name="grounding", questions=questions, score=finding.grounding)], list(skipped)


def _keypoints(file: DataFile, tokens: frozenset[str], asking: Asking) -> Made:
    check_answered(file, ("[POSE]",), tokens)
    found = read_keypoints(file.path, file.images, skip_bad=asking.skip_bad)
    pictures: list[tuple[CocoImage, Sequence[Row], Mapping[int, str], tuple[str, ...]]] = []
    for image, rows in found.items:
        # One question for each list of keypoints: an answer has one list.
        for parts in sorted({found.parts[row.category] for row, _ in rows}):
            there = {row.category for row, _ in rows}
            alike = {key: name for key, name in found.names.items() if found.parts[key] == parts}
            asked = {key: name for key, name in alike.items() if asking.every_class or key in there}
            pictures.append((image, rows, asked, parts))
    ask = partial(_pose, asking.instruction)
    questions = [partial(ask, *one) for one in _some(pictures, asking)]
    return [Part(name="keypoints", questions=questions, score=finding.keypoints)], list(found.skipped)


Item = TypeVar("Item")


def _some(items: Sequence[Item], asking: Asking) -> Sequence[Item]:
    """All, or as many as are asked for, in their order."""
    if asking.count is None or asking.count >= len(items):
        return items
    chosen = Random(f"eval:{asking.seed}").sample(range(len(items)), asking.count)
    return [items[index] for index in sorted(chosen)]


def _classes(
    wording: str,
    names: Mapping[int, str],
    known: Mapping[int, str],
    truth: Truth[Kind],
    image: CocoImage,
    rows: Annotations,
    groups: Annotations,
) -> Asked[Kind]:
    """A question for the classes in `known`, without any for those of the picture's objects."""
    classes = list(known or sorted({row.category for row in rows}))
    said = tuple(names[key] for key in classes)

    def named(some: Sequence[CocoAnnotation]) -> Kind:
        labels = np.asarray([classes.index(row.category) for row in some], np.int64)
        return truth(image, some, labels, said)

    crowds = [row for row in groups if row.category in classes]
    text = wording.replace("{classes}", listed(said))
    return Asked(
        question=question(text, image.pixels()),
        truth=named(rows),
        groups=named(crowds) if crowds else None,
    )


def _phrase(wording: str, image: CocoImage, row: CocoAnnotation, phrase: str) -> Asked[Boxes]:
    truth = boxes_of(image, [row], np.zeros(1, np.int64), (phrase,))
    return Asked(question=question(wording.replace("{phrase}", phrase), image.pixels()), truth=truth)


def _pose(
    wording: str | None,
    image: CocoImage,
    rows: Sequence[Row],
    classes: Mapping[int, str],
    parts: tuple[str, ...],
) -> Asked[Keypoints]:
    wording = wording or (POSE if set(parts) == set(KEYPOINTS) else POSE_NAMED)
    text = wording.replace("{classes}", listed(list(classes.values())))
    text = text.replace("{keypoints}", listed([f"the {part}" for part in parts]))
    truth = keypoints_of(image, rows, classes, parts, range(len(parts)))
    return Asked(question=question(text, image.pixels()), truth=truth)
