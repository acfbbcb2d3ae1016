"""Questions with what should be found, and the scores of what was: boxes, masks, grounding, keypoints.

Where questions come from makes no difference here: drawn scenes and pictures of the user's are scored alike.
Each function takes questions one at a time and keeps no picture: there may be thousands.

Average precision ranks all that a decoder finds, also what scores too little to be served (Lin et al. 2014,
COCO's evaluation, takes the best 100 of a picture). So what it is measured by is asked twice: as a user asks,
for the other numbers, and with every score from `RANKED` on. A question with a threshold of its own is
asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from superlink.agents.asking import Question
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.workflows.eval.answering import Answer, Progress, answered
from superlink.workflows.eval.matching import Tally, box_iou, tally
from superlink.workflows.eval.poses import named_alike, poses
from superlink.workflows.eval.precision import Precision, PrecisionCount
from superlink.workflows.eval.report import Metric, share

Kind = TypeVar("Kind", Boxes, Masks, Keypoints)
RANKED = 0.02  # least score of what average precision ranks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked(Generic[Kind]):
    """A question and what should be found."""

    question: Question
    truth: Kind
    groups: Kind | None = None  # crowds: what is found in one of the same name counts neither way


def boxes(
    answer: Answer, asked: Iterator[Asked[Boxes]], batch: int, progress: Progress | None
) -> list[Metric]:
    """COCO's average precision of boxes, and F1 of all that was found."""
    precision, total = _counted(ranked(answer, asked, boxes_of, batch, progress))
    return [
        Metric(group="boxes", name="mAP", value=precision.ap, count=precision.truths),
        Metric(group="boxes", name="AP50", value=precision.ap50, count=precision.truths),
        Metric(group="boxes", name="F1 at IoU 0.5", value=total.f1, count=total.truths),
    ]


def masks(
    answer: Answer, asked: Iterator[Asked[Masks]], batch: int, progress: Progress | None
) -> list[Metric]:
    """COCO's average precision of masks; overlap and share of the objects whose box was found."""
    precision, total = _counted(ranked(answer, asked, masks_of, batch, progress))
    return [
        Metric(group="masks", name="mAP", value=precision.ap, count=precision.truths),
        Metric(group="masks", name="AP50", value=precision.ap50, count=precision.truths),
        Metric(group="masks", name="mIoU of matched", value=total.mean_overlap, count=total.right),
        Metric(group="masks", name="recall", value=total.recall, count=total.truths),
    ]


def grounding(
    answer: Answer, asked: Iterator[Asked[Boxes]], batch: int, progress: Progress | None
) -> list[Metric]:
    """The share of phrases whose best box has an IoU of at least 0.5 with the one that is meant."""
    hits: list[bool] = []
    for truth, found in pairs(answer, asked, boxes_of, batch, progress):
        hits += _grounded(found, truth)
    return [share("grounding", "P@0.5", hits)]


def keypoints(
    answer: Answer,
    asked: Iterator[Asked[Keypoints]],
    batch: int,
    progress: Progress | None,
    *,
    of_people: bool = False,
) -> list[Metric]:
    """Average precision over OKS, and PCK; `of_people` as in `poses`."""
    every_one = ranked(answer, asked, keypoints_of, batch, progress)
    found = [(one.truth, served, every) for one, served, every in every_one]  # and not its picture
    return poses(
        named_alike([truth for truth, _, _ in found]),
        [served for _, served, _ in found],
        [every for _, _, every in found],
        of_people=of_people,
    )


def pairs(
    answer: Answer,
    asked: Iterator[Asked[Kind]],
    found_in: Callable[[Turn], Kind],
    batch: int,
    progress: Progress | None,
) -> Iterator[tuple[Kind, Kind]]:
    """What there is and what was found, picture by picture."""
    waiting: list[Kind] = []

    def questions() -> Iterator[Question]:
        for one in asked:
            waiting.append(one.truth)
            yield one.question

    for turn in answered(answer, questions(), batch, progress):
        yield waiting.pop(0), found_in(turn)


def ranked(
    answer: Answer,
    asked: Iterator[Asked[Kind]],
    found_in: Callable[[Turn], Kind],
    batch: int,
    progress: Progress | None,
) -> Iterator[tuple[Asked[Kind], Kind, Kind]]:
    """What was asked, what a user gets, and what average precision ranks, picture by picture."""
    waiting: list[Asked[Kind]] = []

    def questions() -> Iterator[Asked[Kind]]:
        for one in asked:
            waiting.append(one)
            yield one
            if one.question.threshold is None:
                yield replace(one, question=replace(one.question, threshold=RANKED))

    found = pairs(answer, questions(), found_in, batch, None)
    for _, served in found:
        one = waiting.pop(0)
        every = next(found)[1] if one.question.threshold is None else served
        if progress is not None:
            progress(1)
        yield one, served, every


def _counted(
    found: Iterator[tuple[Asked[Boxes], Boxes, Boxes]] | Iterator[tuple[Asked[Masks], Masks, Masks]],
) -> tuple[Precision, Tally]:
    """COCO's average precision, and what a user gets right and wrong at an IoU of 0.5."""
    counted, total = PrecisionCount(), Tally()
    for one, served, every in found:
        counted.add(one.truth, every, one.groups)
        total += tally(served, one.truth, groups=one.groups)
    return counted.precision(), total


def _grounded(found: Boxes, truth: Boxes) -> list[bool]:
    """For every referred object, whether the best box of its phrase covers it."""
    hits = []
    for label, box in zip(truth.labels, truth.xyxy, strict=True):
        names = [found.names[k] == truth.names[label] for k in found.labels]
        scores = [score if same else -1.0 for score, same in zip(found.scores, names, strict=True)]
        best = max(range(len(scores)), key=scores.__getitem__, default=-1)
        hits.append(best >= 0 and names[best] and bool(box_iou(found.xyxy[[best]], box[None])[0, 0] >= 0.5))
    return hits


def boxes_of(turn: Turn) -> Boxes:
    """The boxes of a turn."""
    return turn.boxes


def masks_of(turn: Turn) -> Masks:
    """The masks of a turn."""
    return turn.masks


def keypoints_of(turn: Turn) -> Keypoints:
    """The keypoints of a turn."""
    return turn.keypoints
