from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Origin, Picture, Text, equal, tight_boxes
from superlink.decoders.export import from_json
from superlink.router.errors import InputError

HEIGHT, WIDTH = 24, 31
NAMES = ("red circle", "star", "person")


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    rows = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = np.sort(rng.uniform(0, WIDTH, (rows, 2)), axis=1)
    y = np.sort(rng.uniform(0, HEIGHT, (rows, 2)), axis=1)
    return Boxes(
        xyxy=np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32),
        scores=rng.uniform(0, 1, rows).astype(np.float32),
        labels=rng.integers(0, len(NAMES), rows),
        names=NAMES,
        size=(HEIGHT, WIDTH),
        origin=Origin(id="boxes-1", decoder="grounding_dino"),
    )


@given(boxes(), st.floats(0, 1))
def test_filtering_keeps_exactly_the_items_at_or_above_the_threshold(found: Boxes, threshold: float) -> None:
    kept = found.filtered(threshold)
    expected = [tuple(box) for box, score in zip(found.xyxy, found.scores, strict=True) if score >= threshold]
    assert [tuple(box) for box in kept.xyxy] == expected
    assert kept.names == found.names
    assert kept.origin == found.origin


@given(boxes())
def test_sorting_orders_by_score_and_moves_whole_items(found: Boxes) -> None:
    ordered = found.sorted()
    assert list(ordered.scores) == sorted(found.scores, reverse=True)
    before = sorted(zip(found.scores, found.labels, map(tuple, found.xyxy), strict=True))
    after = sorted(zip(ordered.scores, ordered.labels, map(tuple, ordered.xyxy), strict=True))
    assert before == after


def test_items_of_equal_score_keep_their_order() -> None:
    xyxy = np.arange(12, dtype=np.float32).reshape(3, 4)
    ties = Boxes(
        xyxy=xyxy, scores=np.ones(3, np.float32), labels=np.zeros(3, np.int64), names=("a",), size=(20, 20)
    )
    np.testing.assert_array_equal(ties.sorted().xyxy, xyxy)


@given(boxes(), st.data())
def test_selecting_takes_positions_flags_and_slices_alike(found: Boxes, data: st.DataObject) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    positions = [k for k, flag in enumerate(flags) if flag]
    by_flags = found.select(np.asarray(flags, bool))
    assert equal(by_flags, found.select(positions))
    assert len(by_flags) == sum(flags)
    assert equal(found.select(slice(0, 2)), found.select(list(range(min(2, len(found))))))


@given(boxes())
def test_boxes_come_back_from_json_within_the_rounding(found: Boxes) -> None:
    data = json.loads(json.dumps(found.to_json()))
    back = from_json(data, size=found.size)
    assert isinstance(back, Boxes)
    assert back.phrases == found.phrases
    assert back.origin == found.origin
    np.testing.assert_allclose(back.xyxy, found.xyxy, atol=0.0051)
    np.testing.assert_allclose(back.scores, found.scores, atol=0.000051)


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_masks_come_back_from_json_exactly(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((rows, HEIGHT, WIDTH)) < rng.random((rows, 1, 1))
    found = Masks(
        masks=masks,
        xyxy=tight_boxes(masks),
        scores=np.ones(rows, np.float32),
        labels=np.zeros(rows, np.int64),
        names=("star",) if rows else (),
        size=(HEIGHT, WIDTH),
    )
    back = from_json(json.loads(json.dumps(found.to_json())), size=found.size)
    assert equal(back, found)


def test_the_json_of_boxes_is_the_documented_one() -> None:
    found = Boxes(
        xyxy=np.asarray([[12, 30.5, 80.1, 99]], np.float32),
        scores=np.asarray([0.97], np.float32),
        labels=np.asarray([1]),
        names=("star", "red circle"),
        size=(100, 100),
        origin=Origin(id="boxes-1", decoder="grounding_dino", source="abc", round=1),
    )
    assert json.dumps(found.to_json()) == (
        '{"id": "boxes-1", "type": "boxes", "decoder": "grounding_dino", "labels": ["red circle"], '
        '"scores": [0.97], "xyxy": [[12.0, 30.5, 80.1, 99.0]]}'
    )


def test_keypoints_text_and_pictures_have_json_too() -> None:
    points = Keypoints(
        xyv=np.asarray([[[1.5, 2.25, 2], [3, 4, 0]]], np.float32),
        keypoint_names=("nose", "left eye"),
        xyxy=np.asarray([[0, 0, 5, 5]], np.float32),
        scores=np.asarray([0.5], np.float32),
        labels=np.asarray([0]),
        names=("person",),
        size=(8, 8),
    )
    assert equal(from_json(json.loads(json.dumps(points.to_json())), size=(8, 8)), points)
    assert from_json(Text(text="hello").to_json(), size=(1, 1)).to_json()["text"] == "hello"
    picture = Picture(pixels=np.zeros((4, 6, 3), np.uint8), origin=Origin(id="picture-1"))
    head = {"id": "picture-1", "type": "picture", "decoder": ""}
    assert picture.to_json() == {**head, "path": None, "size": [4, 6]}


@pytest.mark.parametrize(
    ("data", "said"), [({"type": "picture"}, "'picture'"), ({"type": "boxes"}, "needs the key 'labels'")]
)
def test_json_that_is_no_artifact_is_refused_by_name(data: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_json(data, size=(4, 4))


def test_rows_of_different_length_are_refused_with_both_counts() -> None:
    with pytest.raises(InputError, match="2 items but 1 scores"):
        Boxes(
            xyxy=np.zeros((2, 4), np.float32),
            scores=np.ones(1, np.float32),
            labels=np.zeros(2, np.int64),
            names=("a",),
            size=(4, 4),
        )


def test_asking_for_a_name_that_was_not_asked_for_lists_the_names() -> None:
    one = Boxes(
        xyxy=np.asarray([[0, 0, 1, 1]], np.float32),
        scores=np.ones(1, np.float32),
        labels=np.asarray([1]),
        names=("star", "ring"),
        size=(4, 4),
    )
    assert len(one.named("ring")) == 1
    assert len(one.named("star")) == 0
    with pytest.raises(InputError, match="'cat'; the names are star, ring"):
        one.named("cat")


def test_tight_boxes_match_the_pixels_one_by_one() -> None:
    rng = np.random.default_rng(3)
    masks = rng.random((6, 9, 7)) < 0.08
    masks[0] = False
    for mask, box in zip(masks, tight_boxes(masks), strict=True):
        pixels = [(x, y) for y in range(9) for x in range(7) if mask[y, x]]
        if not pixels:
            assert list(box) == [0, 0, 0, 0]
            continue
        xs, ys = zip(*pixels, strict=True)
        assert list(box) == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def test_equality_notices_type_values_and_fields_left_out() -> None:
    def text(words: str, id: str) -> Text:
        return Text(text=words, origin=Origin(id=id))

    assert equal(text("a", "1"), text("a", "1"))
    assert not equal(text("a", "1"), text("a", "2"))
    assert equal(text("a", "1"), text("a", "2"), ignore=["origin"])
    assert not equal(text("a", "1"), Picture(pixels=np.zeros((1, 1, 3), np.uint8)))
    dark = Picture(pixels=np.zeros((2, 2, 3), np.uint8))
    assert not equal(dark, Picture(pixels=np.ones((2, 2, 3), np.uint8)))


def test_importing_the_artifacts_loads_numpy_and_nothing_heavy() -> None:
    code = (
        "import sys, superlink.decoders.artifacts;"
        "print([m for m in ('torch', 'supervision', 'PIL', 'pycocotools') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
