"""Artifacts of a call become prompts, and labelled masks become training prompts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from superlink.decoders.artifacts import Artifact, Keypoints, tight_boxes
from superlink.decoders.sam import PromptMix, clicks
from superlink.decoders.sam.drawing import coarse_mask, draw_points, draw_prompts, noisy_box
from superlink.decoders.sam.frame import mask_prompt, masks_to_frame, sam_letterbox
from superlink.decoders.sam.prompts import MaskPrompt, prompts_of
from superlink.router.errors import InputError, ModelError
from tests.decoders.sam.segmenters import boxes_of, built, call_of, masks_of, rectangle, small

SIZE = (48, 64)


def prompts(*inputs: Artifact, names: tuple[str, ...] = ("thing",)) -> list[MaskPrompt]:
    return prompts_of(call_of(small(), names=names, inputs=inputs))


def people(points: list[list[list[float]]], xyxy: list[list[float]]) -> Keypoints:
    return Keypoints(
        xyv=np.array(points, dtype=np.float32),
        keypoint_names=tuple(f"point {index}" for index in range(len(points[0]))),
        xyxy=np.array(xyxy, dtype=np.float32),
        scores=np.ones(len(points), dtype=np.float32),
        labels=np.zeros(len(points), dtype=np.int64),
        names=("person",),
        size=SIZE,
    )


def test_without_inputs_every_link_asks_alone() -> None:
    found = prompts(names=("a", "b"))
    assert [(one.label, one.link_alone) for one in found] == [(0, True), (1, True)]


def test_boxes_are_cut_at_the_edges_of_the_picture() -> None:
    (found,) = prompts(boxes_of([[-5, 10, 20, 99]], score=0.5))
    assert found.box is not None
    np.testing.assert_allclose(found.box, [0, 10, 20, 48])
    assert found.score == 0.5


def test_clicks_hold_points_on_and_beside_the_thing() -> None:
    (found,) = prompts(clicks([(3, 4), (9.5, 2)], [(60, 40)], size=SIZE))
    np.testing.assert_allclose(found.points, [[3, 4], [9.5, 2], [60, 40]])
    assert found.inside.tolist() == [True, True, False]
    assert found.box is None


def test_clicks_of_another_phrase_ask_for_a_mask_of_their_own() -> None:
    named = replace(boxes_of([[4, 4, 20, 20]]), names=("region1",), labels=np.zeros(1, np.int64))
    for name, together in (("region1", True), ("region2", False), ("", True)):
        found = prompts(named, clicks([(10, 10)], size=SIZE, name=name))
        assert [(one.box is not None, len(one.points)) for one in found] == (
            [(True, 1)] if together else [(True, 0), (False, 1)]
        )


def test_clicks_refine_the_box_or_the_mask_that_they_come_with() -> None:
    clicked = clicks([(10, 10)], size=SIZE)
    mask = masks_of([rectangle(SIZE, 4, 4, 20, 20)])
    for other in (boxes_of([[4, 4, 20, 20]]), mask):
        for order in ((clicked, other), (other, clicked)):
            (found,) = prompts(*order)
            assert found.box is not None
            np.testing.assert_allclose(found.box, [4, 4, 20, 20])
            assert len(found.points) == 1
            assert (found.mask is not None) == (other is mask)
    both = prompts(boxes_of([[4, 4, 20, 20], [30, 30, 40, 40]]), clicked)
    assert len(both) == 3  # one click cannot refine two boxes


def test_keypoints_ask_with_what_is_visible_of_them_and_their_box() -> None:
    found = prompts(
        people(
            [[[5, 5, 2], [9, 9, 1], [0, 0, 0]], [[0, 0, 0]] * 3],
            [[2, 2, 12, 30], [30, 2, 40, 30]],
        )
    )
    assert [len(one.points) for one in found] == [2, 0]
    assert all(one.box is not None for one in found)


def test_items_belong_to_the_link_of_their_phrase() -> None:
    boxes = boxes_of([[1, 1, 9, 9], [2, 2, 9, 9]], labels=[1, 0], names=("star", "ring"))
    assert [one.label for one in prompts(boxes, names=("ring", "star"))] == [0, 1]
    assert [one.label for one in prompts(boxes, names=("star", "ring"))] == [1, 0]
    assert [one.label for one in prompts(boxes, names=("left one",))] == [0, 0]
    two = (clicks([(1, 1)], size=SIZE), clicks([(9, 9)], size=SIZE))
    assert [one.label for one in prompts(*two, names=("region 1", "region 2"))] == [0, 1]
    with pytest.raises(InputError, match="1 of 1 inputs"):
        prompts(two[0], names=("region 1", "region 2"))


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (boxes_of([[70, 4, 80, 9]]), "outside the picture of 64 x 48"),
        (boxes_of([[4, 4, np.nan, 9]]), "not finite"),
        (boxes_of([[9, 4, 4, 9]]), "inside out"),
        (boxes_of([[4, 4, 9, 9]], size=(48, 65)), "65 x 48"),
        (masks_of([rectangle((20, 20), 0, 0, 9, 9)]), "20 x 20"),
        (replace(masks_of([rectangle((20, 20), 0, 0, 9, 9)]), size=SIZE), r"shape \(20, 20\)"),
        (masks_of([np.zeros(SIZE)]), "empty mask"),
        (clicks([(64.5, 4)], size=SIZE), "outside the picture"),
        (clicks([(float("inf"), 4)], size=SIZE), "not finite"),
        (clicks([(1, 1)], [(float("nan"), 4)], size=SIZE), "not finite"),
        (people([[[0, 0, 0]]], [[3, 3, 3, 3]]), "without visible keypoints"),
    ],
)
def test_inputs_that_cannot_be_prompts_are_refused_by_the_name_of_the_call(bad: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=rf"sam\.0.*{sentence}"):
        built().prepare([call_of(small(), inputs=(bad,))])


def test_a_click_prompt_needs_a_click() -> None:
    with pytest.raises(InputError, match="at least one point"):
        clicks([], size=SIZE)


def test_a_mask_prompt_says_how_much_of_each_cell_it_covers() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4, :2] = True  # of cells of 4: the left half of the first
    np.testing.assert_allclose(mask_prompt(mask, stride=4, logit=10.0), [[[0, -10], [-10, -10]]])


sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(size=sizes, data=st.data())
def test_whatever_is_in_the_picture_is_in_the_frame_and_near_its_place(
    size: tuple[int, int], data: st.DataObject
) -> None:
    y, x = (data.draw(st.integers(0, side - 1)) for side in size)
    mask = rectangle(size, x, y, x + 1, y + 1)
    box = sam_letterbox(size, 32)
    frame = masks_to_frame(mask[None], box, 32)[0]
    assert frame.any()
    height, width = box.inner
    assert max(box.inner) == 32
    assert not frame[height:].any()
    assert not frame[:, width:].any()
    rows, columns = frame.nonzero().double().mean(0).tolist()
    place = box.points_to_frame(np.array([x + 0.5, y + 0.5]))
    assert abs(columns + 0.5 - place[0]) <= 1
    assert abs(rows + 0.5 - place[1]) <= 1


rectangles = st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 32), st.integers(1, 24))


@given(shape=rectangles, seed=st.integers(0, 2**32))
def test_training_prompts_lie_where_the_object_is(shape: tuple[int, int, int, int], seed: int) -> None:
    """On a 32 x 24 picture in a frame of 32."""
    x0, y0, across, down = shape
    goal = torch.from_numpy(rectangle((32, 32), x0, y0, min(x0 + across, 32), min(y0 + down, 24)))
    box = tight_boxes(goal[None].numpy())[0].astype(np.float64)
    rng = np.random.default_rng(seed)
    points, inside = draw_points(goal, box, (24, 32), 4, rng)
    assert inside[0] == 1
    assert 1 <= len(points) == len(inside) <= 4
    for (x, y), flag in zip(points.astype(int).tolist(), inside.tolist(), strict=True):
        assert bool(goal[y, x]) == bool(flag)
        assert y < 24
    noisy = noisy_box(box, (24, 32), share=0.1, limit=2.0, rng=rng)
    assert (noisy[:2] <= noisy[2:]).all()
    assert (noisy >= 0).all()
    assert (noisy <= (32, 24, 32, 24)).all()
    assert (np.abs(noisy - box) <= 2.0 + 1e-9).all()
    rough = coarse_mask(goal, box, rng)
    assert rough.any()
    assert int((rough & goal).sum()) > 0


def test_every_kind_of_training_prompt_is_drawn_and_the_seed_decides_which() -> None:
    config = small(prompts=PromptMix())
    masks = torch.from_numpy(np.stack([rectangle((64, 64), 8 * k, 8, 8 * k + 7, 40) for k in range(8)]))
    kinds: set[tuple[bool, bool, bool, bool]] = set()
    for seed in range(20):
        drawn = [
            draw_prompts(
                masks,
                list(range(8)),
                call=0,
                links=8,
                inner=(64, 64),
                config=config,
                rng=np.random.default_rng(seed),
            )
            for _ in range(2)
        ]
        (prompts_, goals), (again, _) = drawn
        assert [one.kind for one in prompts_] == [one.kind for one in again]
        assert [one.label for one in prompts_] == list(range(8))
        assert all(torch.equal(goal, mask) for goal, mask in zip(goals, masks, strict=True))
        kinds |= {
            (one.link_alone, len(one.points) > 0, one.box is not None, one.mask is not None)
            for one in prompts_
        }
    assert kinds == {
        (True, False, False, False),
        (False, True, False, False),
        (False, False, True, False),
        (False, False, True, True),
    }


def test_an_object_is_asked_for_several_times_in_different_ways() -> None:
    masks = torch.from_numpy(np.stack([rectangle((64, 64), 8 * k, 8, 8 * k + 7, 40) for k in range(3)]))
    config = small(prompts=PromptMix(link=0.0, draws=5))
    rng = np.random.default_rng(3)
    drawn, goals = draw_prompts(masks, [0, 1, 1], call=0, links=3, inner=(64, 64), config=config, rng=rng)
    assert Counter(one.label for one in drawn) == {0: 5, 1: 10}
    assert len({one.kind for one in drawn}) == 3
    for one, goal in zip(drawn, goals, strict=True):
        wanted = [masks[row] for row, label in enumerate((0, 1, 1)) if label == one.label]
        assert any(torch.equal(goal, mask) for mask in wanted)
    with pytest.raises(ModelError, match="draws of training prompts is 0"):
        PromptMix(draws=0)


class Brush:
    """Draws what it was told, in place of random numbers."""

    def __init__(self, across: float, down: float, reach: int, *, grown: bool) -> None:
        self.moves, self.integral = np.array([across, down]), [reach, int(grown)]

    def uniform(self, *_: float, size: int) -> Any:
        return self.moves

    def integers(self, *_: int) -> int:
        return self.integral.pop(0)


@pytest.mark.parametrize("reach", [0, 1, 4])
@pytest.mark.parametrize("grown", [True, False])
def test_a_rough_mask_is_the_moved_one_thicker_or_thinner_by_squares(reach: int, grown: bool) -> None:
    """Pixel by pixel: the best of its neighbourhood, or the worst; beyond the edge lies nothing."""
    goal = torch.from_numpy(np.random.default_rng(reach).random((20, 24)) < (0.1 if grown else 0.97))
    box = np.array([0.0, 0.0, 20.0, 20.0])
    brush: Any = Brush(0.1, -0.05, reach, grown=grown)
    moved = np.zeros((20, 24), dtype=np.bool_)
    moved[:-1, 2:] = goal.numpy()[1:, :-2]
    expected = np.zeros_like(moved)
    for y, x in np.ndindex(moved.shape):
        near = moved[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        expected[y, x] = near.any() if grown else near.all()
    if not expected.any():
        expected = goal.numpy()
    np.testing.assert_array_equal(coarse_mask(goal, box, brush).numpy(), expected)
