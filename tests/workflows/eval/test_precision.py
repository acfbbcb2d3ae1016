from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.decoders.artifacts import Boxes, Masks
from superlink.workflows.data.shapes import Scene
from superlink.workflows.eval.matching import tally
from superlink.workflows.eval.precision import PrecisionCount, average_precision

SIZE = (100, 100)


def boxes(xyxy: list[list[float]], labels: list[int], names: str, scores: list[float] | None = None) -> Boxes:
    return Boxes(
        xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
        scores=np.asarray(scores or [1.0] * len(labels), np.float32),
        labels=np.asarray(labels, np.int64),
        names=tuple(names),
        size=SIZE,
    )


NOTHING = boxes([], [], "ab")
TRUTH = [boxes([[0, 0, 50, 50], [60, 60, 90, 90]], [0, 1], "ab"), boxes([[10, 10, 40, 80]], [0], "a")]


def test_the_truth_itself_scores_one() -> None:
    precision = average_precision(TRUTH, TRUTH)
    assert (precision.ap, precision.ap50, precision.truths) == (pytest.approx(1), pytest.approx(1), 3)


def test_classes_are_names_not_positions() -> None:
    turned = boxes([[60, 60, 90, 90], [0, 0, 50, 50]], [0, 1], "ba")
    assert average_precision(TRUTH, [turned, TRUTH[1]]).ap == pytest.approx(1)


def test_nothing_found_scores_zero() -> None:
    assert average_precision(TRUTH, [NOTHING, NOTHING]).ap == 0


def test_wrong_and_unknown_names_find_nothing() -> None:
    swapped = boxes([[0, 0, 50, 50], [60, 60, 90, 90]], [1, 0], "ab")
    unknown = boxes([[10, 10, 40, 80]], [0], "z")
    assert average_precision(TRUTH, [swapped, unknown]).ap50 == 0


def test_a_loose_box_counts_at_half_but_not_everywhere() -> None:
    loose = boxes([[0, 0, 50, 34]], [0], "a")  # IoU 0.68
    precision = average_precision([boxes([[0, 0, 50, 50]], [0], "a")], [loose])
    assert precision.ap50 == pytest.approx(1)
    assert precision.ap == pytest.approx(0.4)  # 0.50, 0.55, 0.60 and 0.65 of ten thresholds


def test_findings_in_a_crowd_of_their_name_are_ignored_and_others_are_wrong() -> None:
    truth, crowd = boxes([[0, 0, 20, 20]], [0], "ab"), boxes([[40, 40, 100, 100]], [0], "ab")
    inside = [[0, 0, 20, 20], [50, 50, 60, 60], [70, 70, 90, 90]]
    found = {
        1.0: boxes(inside, [0, 0, 0], "ab", [0.5, 0.9, 0.8]),
        1 / 3: boxes([inside[0], [20, 50, 30, 60], [0, 70, 20, 90]], [0, 0, 0], "ab", [0.5, 0.9, 0.8]),
    }
    for ap, one in found.items():
        counted = PrecisionCount()
        counted.add(truth, one, crowd)
        assert (counted.precision().ap, counted.precision().truths) == (pytest.approx(ap), 1)
        assert tally(one, truth, groups=crowd).found == (1 if ap == 1 else 3)
    assert tally(found[1.0], truth).found == 3
    named = boxes([[50, 50, 60, 60]], [1], "ab")
    assert tally(named, truth, groups=crowd).found == 1


def test_pictures_must_pair_up() -> None:
    with pytest.raises(ValueError, match="2 pictures have truths but 1"):
        average_precision(TRUTH, TRUTH[:1])


def test_masks_are_scored_as_masks() -> None:
    scene = next(s for s in map(Scene.generate, range(50)) if len(s.objects) >= 3)
    truth = scene.masks({"thing": scene.objects})
    assert average_precision([truth], [truth]).ap == pytest.approx(1)
    filled = truth.masks.copy()
    for row, (x0, y0, x1, y1) in enumerate(truth.xyxy.astype(int)):
        filled[row, y0:y1, x0:x1] = True
    boxed = Masks(
        masks=filled,
        xyxy=truth.xyxy,
        scores=truth.scores,
        labels=truth.labels,
        names=truth.names,
        size=truth.size,
    )
    assert average_precision([truth], [boxed]).ap < 0.95


def brute_force_ap50(truths: list[Boxes], found: list[Boxes]) -> float:
    """Per class: rank by score, match greedily at IoU 0.5, average precision at 101 recalls."""
    names = sorted({truth.names[label] for truth in truths for label in truth.labels})
    per_class = []
    for name in names:
        ranked = sorted(
            (
                (-float(one.scores[row]), picture, row)
                for picture, one in enumerate(found)
                for row in range(len(one))
                if one.names[one.labels[row]] == name
            ),
        )
        total = sum(t.names[k] == name for t in truths for k in t.labels)
        used: set[tuple[int, int]] = set()
        flags = []
        for _, picture, row in ranked:
            truth = truths[picture]
            best, best_iou = None, 0.5
            for column in range(len(truth)):
                if truth.names[truth.labels[column]] != name or (picture, column) in used:
                    continue
                iou = pair_iou(found[picture].xyxy[row], truth.xyxy[column])
                if iou >= best_iou:
                    best, best_iou = column, iou
            flags.append(best is not None)
            if best is not None:
                used.add((picture, best))
        right = np.cumsum(flags)
        precision = right / np.arange(1, len(flags) + 1)
        recall = right / total
        points = [precision[recall >= r].max(initial=0.0) for r in np.linspace(0, 1, 101)]
        per_class.append(np.mean(points))
    return float(np.mean(per_class))


def pair_iou(a: np.ndarray, b: np.ndarray) -> float:
    grid = np.zeros((2, 100, 100), dtype=bool)
    for plane, (x0, y0, x1, y1) in zip(grid, (a.astype(int), b.astype(int)), strict=True):
        plane[y0:y1, x0:x1] = True
    return float((grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_average_precision_agrees_with_a_brute_force_count(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(rows: int) -> Boxes:
        low = rng.integers(0, 60, size=(rows, 2))
        return boxes(
            np.concatenate([low, low + rng.integers(8, 40, size=(rows, 2))], axis=1).tolist(),
            rng.integers(0, 2, size=rows).tolist(),
            "ab",
        )

    truths = [some(4) for _ in range(3)]
    found = []
    for truth in truths:
        moved = np.clip(truth.xyxy + rng.integers(-4, 5, size=truth.xyxy.shape), 0, 100)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        extra = some(2)
        xyxy = np.concatenate([moved, extra.xyxy]).tolist()
        labels = [*truth.labels.tolist(), *extra.labels.tolist()]
        found.append(boxes(xyxy, labels, "ab", scores=rng.permutation(6).astype(float).tolist()))
    # ties between pictures would make the order, and so the value, arbitrary
    for index, one in enumerate(found):
        one.scores[:] = (one.scores * 3 + index + 1) / 30
    ours = average_precision(truths, found)
    assert ours.ap50 == pytest.approx(brute_force_ap50(truths, found), abs=1e-6)
