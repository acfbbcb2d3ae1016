"""Questions with what should be found, and the scores of what was: boxes, masks, grounding, keypoints.

Where questions come from makes no difference here: drawn scenes and pictures of the user's are scored alike.
Each function takes questions one at a time and keeps no picture: there may be thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked(Generic[Kind]):
    """A question and what should be found."""

    question: Question
    truth: Kind


def boxes(
    answer: Answer, asked: Iterator[Asked[Boxes]], batch: int, progress: Progress | None
) -> list[Metric]:
    """COCO's average precision of boxes, and F1 of all that was found."""
    precision, total = _counted(pairs(answer, asked, boxes_of, batch, progress))
    return [
        Metric(group="boxes", name="mAP", value=precision.ap, count=precision.truths),
        Metric(group="boxes", name="AP50", value=precision.ap50, count=precision.truths),
        Metric(group="boxes", name="F1 at IoU 0.5", value=total.f1, count=total.truths),
    ]


def masks(
    answer: Answer, asked: Iterator[Asked[Masks]], batch: int, progress: Progress | None
) -> list[Metric]:
    """COCO's average precision of masks; overlap and share of the objects whose box was found."""
    precision, total = _counted(pairs(answer, asked, masks_of, batch, progress))
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
    answer: Answer, asked: Iterator[Asked[Keypoints]], batch: int, progress: Progress | None
) -> list[Metric]:
    """Average precision over OKS, and PCK."""
    both = list(pairs(answer, asked, keypoints_of, batch, progress))
    return poses(named_alike([truth for truth, _ in both]), [found for _, found in both])


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


def _counted(both: Iterator[tuple[Boxes, Boxes]] | Iterator[tuple[Masks, Masks]]) -> tuple[Precision, Tally]:
    """COCO's average precision, and what was right and wrong at an IoU of 0.5."""
    counted, total = PrecisionCount(), Tally()
    for truth, found in both:
        counted.add(truth, found)
        total += tally(found, truth)
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
