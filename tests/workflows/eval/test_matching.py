from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from superlink.decoders.artifacts import Boxes
from superlink.workflows.data.shapes import Scene
from superlink.workflows.eval.matching import Tally, box_iou, tally


def boxes(xyxy: list[list[float]], labels: list[int], scores: list[float] | None = None) -> Boxes:
    return Boxes(
        xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
        scores=np.asarray(scores or [1.0] * len(labels), np.float32),
        labels=np.asarray(labels, np.int64),
        names=("red circle", "star"),
        size=(100, 100),
    )


TRUTH = boxes([[0, 0, 40, 40], [50, 50, 90, 90]], [0, 1])


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    b = np.array([[0, 0, 10, 5], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(box_iou(a, b), [[0.5, 0], [0, 0]])


def test_everything_found_is_one() -> None:
    assert tally(TRUTH, TRUTH).f1 == 1


def test_nothing_found_is_zero_unless_there_is_nothing() -> None:
    empty = boxes([], [])
    assert tally(empty, TRUTH).f1 == 0
    assert tally(TRUTH, empty).f1 == 0
    assert tally(empty, empty).f1 == 1


def test_wrong_names_do_not_match() -> None:
    assert tally(replace(TRUTH, labels=np.array([1, 0])), TRUTH).right == 0


def test_a_second_box_on_the_same_object_is_wrong() -> None:
    twice = boxes([[0, 0, 40, 40], [1, 1, 40, 40]], [0, 0], scores=[0.9, 0.8])
    counted = tally(twice, TRUTH)
    assert (counted.right, counted.found, counted.truths) == (1, 2, 2)
    assert counted.f1 == pytest.approx(0.5)


def test_tallies_add_up_over_pictures() -> None:
    total = tally(TRUTH, TRUTH) + tally(boxes([], []), TRUTH) + Tally()
    assert (total.recall, total.precision, total.f1) == (0.5, 1, pytest.approx(2 / 3))


def test_overlap_of_matched_masks_is_measured_on_pixels() -> None:
    scene = Scene.generate(4)
    truth = scene.masks({"thing": scene.objects})
    assert tally(truth, truth).mean_overlap == 1
    halved = truth.masks.copy()
    halved[:, ::2] = False
    counted = tally(replace(truth, masks=halved), truth)
    assert counted.right == len(truth)
    assert counted.mean_overlap == pytest.approx(0.5, abs=0.05)
