from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from superlink.decoders.artifacts import Keypoints
from superlink.workflows.data.shapes.people import KEYPOINT_NAMES
from superlink.workflows.eval.poses import keypoint_precision, named_alike, pck, poses

SIGMAS = Params(iouType="keypoints").kpt_oks_sigmas
SIDE = 80.0


def people(rng: np.random.Generator, count: int, names: tuple[str, ...] = ("person",)) -> Keypoints:
    low = rng.uniform(0, 100, (count, 1, 2))
    xyv = np.zeros((count, 17, 3), np.float32)
    xyv[..., :2] = low + rng.uniform(0, (SIDE / 2, SIDE), (count, 17, 2))
    xyv[..., 2] = rng.choice([0, 1, 2], p=[0.1, 0.2, 0.7], size=(count, 17))
    corner = low[:, 0]
    opposite = corner + np.array([SIDE / 2, SIDE])
    return Keypoints(
        xyv=xyv,
        keypoint_names=KEYPOINT_NAMES,
        xyxy=np.concatenate([corner, opposite], axis=1).astype(np.float32),
        scores=np.ones(count, np.float32),
        labels=np.zeros(count, np.int64),
        names=names,
        size=(200, 200),
    )


def moved(truth: Keypoints, by: np.ndarray, scores: np.ndarray | None = None) -> Keypoints:
    xyv = truth.xyv.copy()
    xyv[..., :2] += by
    return replace(truth, xyv=xyv, scores=truth.scores if scores is None else scores.astype(np.float32))


def oks(points: np.ndarray, truth: np.ndarray) -> float:
    """COCO's formula, keypoint by keypoint."""
    area = 0.53 * SIDE * SIDE / 2
    terms = [
        np.exp(-((points[k, :2] - truth[k, :2]) ** 2).sum() / (2 * area * (2 * SIGMAS[k]) ** 2))
        for k in range(17)
        if truth[k, 2] > 0
    ]
    return float(np.mean(terms))


def brute_force_ap(truths: list[Keypoints], found: list[Keypoints]) -> float:
    ranked = sorted(
        (-float(one.scores[row]), picture, row)
        for picture, one in enumerate(found)
        for row in range(len(one))
    )
    total = sum(len(truth) for truth in truths)
    averages = []
    for least in np.arange(0.5, 0.96, 0.05):
        used: set[tuple[int, int]] = set()
        flags = []
        for _, picture, row in ranked:
            values = [
                (oks(found[picture].xyv[row], truth), column)
                for column, truth in enumerate(truths[picture].xyv)
                if (picture, column) not in used
            ]
            best = max(values, default=(0.0, -1))
            flags.append(best[0] >= least)
            if flags[-1]:
                used.add((picture, best[1]))
        right = np.cumsum(flags)
        precision = right / np.arange(1, len(flags) + 1)
        points = [precision[right / total >= r].max(initial=0.0) for r in np.linspace(0, 1, 101)]
        averages.append(np.mean(points))
    return float(np.mean(averages))


@settings(max_examples=15, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_precision_agrees_with_a_brute_force_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths = [people(rng, 3) for _ in range(3)]
    order = rng.permutation(9).reshape(3, 3) / 10 + 0.05
    found = [
        moved(truth, rng.normal(0, rng.uniform(0.5, 9, (3, 1, 1)), (3, 17, 2)), scores)
        for truth, scores in zip(truths, order, strict=True)
    ]
    precision = keypoint_precision(truths, found)
    assert precision.ap == pytest.approx(brute_force_ap(truths, found), abs=1e-6)
    assert precision.truths == 9


def test_the_truth_itself_scores_one_in_any_order_of_keypoints() -> None:
    truth = people(np.random.default_rng(0), 2)
    spoken = tuple(name.replace("_", " ") for name in reversed(KEYPOINT_NAMES))
    turned = replace(truth, xyv=truth.xyv[:, ::-1], keypoint_names=spoken)
    metrics = {metric.name: metric.value for metric in poses([truth], [turned])}
    assert metrics == {"OKS AP": pytest.approx(1), "OKS AP50": pytest.approx(1), "PCK@0.2": 1}


def test_phrases_for_people_are_one_class_beside_the_mean_over_phrases() -> None:
    rng = np.random.default_rng(5)
    crowd, single = people(rng, 3, ("person",)), people(rng, 1, ("tall man",))
    missed = single.select(np.zeros(0, np.int64))
    metrics = {
        metric.name: metric.value for metric in poses([crowd, single], [crowd, missed], of_people=True)
    }
    assert metrics["OKS AP, mean of phrases"] == pytest.approx((1 + 0) / 2)
    assert metrics["OKS AP"] == pytest.approx(76 / 101)  # recall 3/4: 76 of COCO's 101 levels of it


def test_what_was_found_for_one_phrase_is_not_right_for_another() -> None:
    both = people(np.random.default_rng(6), 2, ("tall man", "small woman"))
    truth = replace(both, labels=np.array([0, 1]))
    swapped = replace(both, labels=np.array([1, 0]))
    for found, value in ((truth, 1), (swapped, 0)):
        metrics = {metric.name: metric.value for metric in poses([truth], [found], of_people=True)}
        assert metrics["OKS AP"] == pytest.approx(value)


def test_a_keypoint_that_was_not_found_is_wrong() -> None:
    truth = people(np.random.default_rng(0), 1)
    truth.xyv[..., 2] = 2
    headless = replace(truth, xyv=truth.xyv[:, 5:], keypoint_names=KEYPOINT_NAMES[5:])
    assert pck([truth], [headless]) == (pytest.approx(12 / 17), 17)
    assert keypoint_precision([truth], [headless]).ap == pytest.approx(0.5)  # OKS 12/17 = 0.71: 5 of 10


def test_keypoints_that_are_no_numbers_are_nowhere() -> None:
    truth = people(np.random.default_rng(3), 2)
    found = moved(truth, np.zeros(2))
    found.xyv[:, :, :2] = np.nan
    assert keypoint_precision([truth], [found]).ap == 0.0


def test_keypoints_are_right_within_a_fifth_of_the_longer_side_of_the_box() -> None:
    truth = people(np.random.default_rng(1), 2)
    labelled = int((truth.xyv[..., 2] > 0).sum())
    assert pck([truth], [moved(truth, np.array([0.199 * SIDE, 0]))]) == (1.0, labelled)
    assert pck([truth], [moved(truth, np.array([0.201 * SIDE, 0]))]) == (0.0, labelled)


def test_an_instance_that_was_not_found_counts_with_all_its_keypoints() -> None:
    truth = people(np.random.default_rng(2), 2)
    truth.xyxy[1] += 100  # apart
    known = (truth.xyv[..., 2] > 0).sum(axis=1)
    value, labelled = pck([truth], [truth.select([0])])
    assert (value, labelled) == (pytest.approx(known[0] / known.sum()), known.sum())
    assert pck([truth], [truth.select([])]) == (0.0, known.sum())


def test_keypoints_under_a_wrong_name_are_not_found() -> None:
    truth = people(np.random.default_rng(3), 2)
    wrong = replace(truth, names=("cat",))
    assert {metric.value for metric in poses([truth], [wrong])} == {0.0}


def test_what_does_not_pair_is_refused() -> None:
    truth = people(np.random.default_rng(4), 1)
    with pytest.raises(ValueError, match="1 pictures have truths but 0"):
        keypoint_precision([truth], [])
    other = replace(truth, xyv=truth.xyv[:, :1], keypoint_names=("tip",))
    with pytest.raises(ValueError, match="2 different sets of keypoint names"):
        pck([truth, other], [truth, other])


def test_keypoints_that_a_question_left_out_are_unlabelled() -> None:
    rng = np.random.default_rng(3)
    whole = [people(rng, 3), people(rng, 2)]
    asked = (10, 9, 16)
    part = replace(
        whole[1],
        xyv=whole[1].xyv[:, asked],
        keypoint_names=tuple(KEYPOINT_NAMES[k].replace("_", " ") for k in asked),
    )
    unlabelled = whole[1].xyv.copy()
    unlabelled[:, [k for k in range(17) if k not in asked]] = 0
    meant = [whole[0], replace(whole[1], xyv=unlabelled)]
    found = [moved(truth, rng.normal(0, 4, (len(truth), 17, 2))) for truth in whole]
    assert poses(named_alike([whole[0], part]), found) == poses(meant, found)
    with pytest.raises(ValueError, match="2 different sets"):
        poses([whole[0], part], found)
