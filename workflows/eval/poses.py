"""Keypoint scores on artifacts: average precision over OKS, and PCK@0.2 of the box's longer side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from superlink.decoders.artifacts import FloatArray, Keypoints
from superlink.decoders.unipose.losses import sigma_of
from superlink.workflows.eval.matching import matches
from superlink.workflows.eval.precision import class_names, coco_stats, rows_of
from superlink.workflows.eval.report import Metric

PCK_SHARE = 0.2
AREA_SHARE = 0.53  # an object's area over its box's, where areas are unknown; as mmpose's CocoMetric has it
_NOWHERE = -1e4  # a keypoint that was not found; far away, yet its box stays below COCO's largest area


@dataclass(frozen=True, slots=True, kw_only=True)
class KeypointPrecision:
    """0 where nothing was to be found."""

    ap: float  # OKS 0.50 to 0.95
    ap50: float
    ap75: float
    truths: int  # instances with at least one labelled keypoint


def keypoint_precision(truths: Sequence[Keypoints], found: Sequence[Keypoints]) -> KeypointPrecision:
    """COCO average precision of keypoints through pycocotools, with COCO's constants for its 17 names.

    Args:
        truths: what there is, one artifact a picture, all with the same keypoint names.
        found: what was found, for the same pictures. Keypoints are matched by name, in any order;
            names of classes that no truth has are no class.

    Raises:
        ValueError: another number of pictures was found than there is, or two sets of names.
    """
    named = _keypoint_names(truths, found)
    names = class_names(truths)
    rows: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, (truth, one) in enumerate(zip(truths, found, strict=True), start=1):
        labelled = rows_of(truth, names, image_id)
        rows += [{**row, "area": AREA_SHARE * row["area"]} for row in labelled]
        results += rows_of(_ordered(one, named), names, image_id)
    count = sum(row["num_keypoints"] > 0 for row in rows)
    if not count or not results:
        return KeypointPrecision(ap=0.0, ap50=0.0, ap75=0.0, truths=count)
    constants = np.asarray([sigma_of(name) for name in named])
    sizes = [truth.size for truth in truths]
    stats = coco_stats(sizes, names, rows, results, "keypoints", keypoint_constants=constants)
    return KeypointPrecision(ap=stats[0], ap50=stats[1], ap75=stats[2], truths=count)


def pck(
    truths: Sequence[Keypoints], found: Sequence[Keypoints], least: float = PCK_SHARE
) -> tuple[float, int]:
    """Percentage of correct keypoints, over all labelled ones.

    A keypoint is correct within `least` times the longer side of its instance's true box (PCK of Yang and
    Ramanan 2013). Instances are paired as boxes are, by name with IoU of at least 0.5 in order of
    score; all keypoints of an instance that was not found are wrong.

    Returns:
        The share, 0 without labelled keypoints, and their number.

    Raises:
        ValueError: another number of pictures was found than there is, or two sets of names.
    """
    named = _keypoint_names(truths, found)
    right = labelled = 0
    for truth, one in zip(truths, found, strict=True):
        known = truth.xyv[..., 2] > 0
        labelled += int(known.sum())
        points = _ordered(one, named).xyv
        for row, column in matches(one, truth):
            side = float((truth.xyxy[column, 2:] - truth.xyxy[column, :2]).max())
            away = np.linalg.norm(points[row, :, :2] - truth.xyv[column, :, :2], axis=1)
            right += int((known[column] & (away <= least * side)).sum())
    return (right / labelled if labelled else 0.0), labelled


def named_alike(truths: Sequence[Keypoints]) -> list[Keypoints]:
    """The same truths with all their keypoint names; a keypoint that a truth did not name is unlabelled."""
    named = tuple(dict.fromkeys(_plain(name) for truth in truths for name in truth.keypoint_names))
    return [_arranged(truth, named, (0.0, 0.0, 0.0)) for truth in truths]


def poses(
    truths: Sequence[Keypoints],
    served: Sequence[Keypoints],
    every: Sequence[Keypoints] | None = None,
    *,
    of_people: bool = False,
) -> list[Metric]:
    """Both scores.

    Args:
        truths: what there is.
        served: what a user gets.
        every: what average precision ranks; None = what a user gets.
        of_people: names are phrases for people ("the tall man"), not classes: average precision is of one
            class, COCO's "person", and its mean over phrases stands beside it.

    Raises:
        ValueError: as `keypoint_precision`.
    """
    ranked = served if every is None else every
    by_name = keypoint_precision(truths, ranked)
    precision = keypoint_precision(*each_phrase(truths, ranked)) if of_people else by_name
    correct, labelled = pck(truths, served)
    metrics = [
        Metric(group="keypoints", name="OKS AP", value=precision.ap, count=precision.truths),
        Metric(group="keypoints", name="OKS AP50", value=precision.ap50, count=precision.truths),
        Metric(group="keypoints", name=f"PCK@{PCK_SHARE}", value=correct, count=labelled),
    ]
    if of_people:
        metrics.append(
            Metric(group="keypoints", name="OKS AP, mean of phrases", value=by_name.ap, count=by_name.truths)
        )
    return metrics


def each_phrase(
    truths: Sequence[Keypoints], found: Sequence[Keypoints]
) -> tuple[list[Keypoints], list[Keypoints]]:
    """Every phrase of every picture by itself, as if it were a picture of people: truths, and what was found.

    So what was found for one phrase is right only where this phrase means it, and phrases that many pictures
    share weigh as much as they occur.
    """
    phrases = [(truth, one, name) for truth, one in zip(truths, found, strict=True) for name in truth.names]
    return [_of(truth, name) for truth, _, name in phrases], [_of(one, name) for _, one, name in phrases]


def _of(one: Keypoints, name: str) -> Keypoints:
    """The instances of one name, as people."""
    named = one.select(np.flatnonzero([phrase == name for phrase in one.phrases]))
    return replace(named, labels=np.zeros_like(named.labels), names=("person",))


def _keypoint_names(truths: Sequence[Keypoints], found: Sequence[Keypoints]) -> tuple[str, ...]:
    if len(truths) != len(found):
        raise ValueError(f"{len(truths)} pictures have truths but {len(found)} have findings")
    sets = {tuple(_plain(name) for name in truth.keypoint_names) for truth in truths}
    if len(sets) > 1:
        raise ValueError(f"truths have {len(sets)} different sets of keypoint names; score each by itself")
    return sets.pop() if sets else ()


def _ordered(found: Keypoints, named: tuple[str, ...]) -> Keypoints:
    """`found` with exactly the keypoints `named`; those that it lacks are nowhere."""
    ordered = _arranged(found, named, (_NOWHERE, _NOWHERE, 2.0))
    ordered.xyv[..., 2] = 2  # pycocotools reads the places alone
    places = ordered.xyv[..., :2]
    places[~np.isfinite(places)] = _NOWHERE  # it takes "not a number" for a match
    return ordered


def _arranged(one: Keypoints, named: tuple[str, ...], missing: tuple[float, float, float]) -> Keypoints:
    """A copy with exactly the keypoints `named`; `missing` (x, y, v) stands for those that it lacks."""
    places = {_plain(name): index for index, name in enumerate(one.keypoint_names)}
    xyv: FloatArray = np.full((len(one), len(named), 3), missing, dtype=np.float32)
    for column, name in enumerate(named):
        if name in places:
            xyv[:, column] = one.xyv[:, places[name]]
    return replace(one, xyv=xyv, keypoint_names=named)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
