"""Marks on pictures, against what each shape is by definition."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from superlink.router.errors import InputError
from superlink.router.marks import STYLES, MarkStyle, draw_marks
from superlink.router.messages import Box, Mask, Point, Scribble

RED = (255, 0, 0)


def plain(height: int = 100, width: int = 150) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def red(picture: np.ndarray) -> np.ndarray:
    return np.asarray((picture == RED).all(-1))


def test_a_circle_goes_around_what_is_meant() -> None:
    found = red(draw_marks(plain(), [Box(60, 40, 89, 59)]))
    lines, columns = np.nonzero(found)
    # A round thing that fills the box is not touched; corners of a square one may be.
    assert (np.hypot((columns + 0.5 - 75) / 15, (lines + 0.5 - 50) / 10) > 1.1).all()
    # Every pixel of the ring solves the equation of an ellipse around the box's middle.
    radius = np.hypot((columns - 75) / (18 + 4), (lines - 50) / (12 + 4))
    assert 0.8 < radius.min() < radius.max() < 1.1
    angles = np.degrees(np.arctan2(lines - 50, columns - 75))
    assert len(np.unique(angles // 30 % 12)) == 12  # all the way round


def test_a_box_is_a_rectangle_around_what_is_meant() -> None:
    mask = np.zeros((100, 150), np.bool_)
    mask[20:50, 30:80] = np.tri(30, 50, 20, dtype=np.bool_)
    found = red(draw_marks(plain(), [Mask(mask)], style="box"))
    inside = np.argwhere(mask)
    assert not found[mask].any()
    lines, columns = np.nonzero(found)
    assert (lines.min(), columns.min()) == tuple(inside.min(0) - 4)
    assert (lines.max(), columns.max()) == tuple(inside.max(0) + 5)


def test_the_tip_of_an_arrow_lies_on_what_is_meant_and_all_of_it_on_the_picture() -> None:
    for x, y in ((10, 10), (140, 10), (10, 90), (140, 90)):
        lines, columns = np.nonzero(red(draw_marks(plain(), [Point(x, y)], style="arrow")))
        far = np.hypot(columns - x, lines - y)
        assert far.min() <= 2
        assert far.max() == pytest.approx(0.18 * 150, abs=3)
    ring = np.hypot(*(np.indices((100, 150)) - np.array([50, 75])[:, None, None]))
    ring_mask = (ring > 20) & (ring < 25)
    found = red(draw_marks(plain(), [Mask(ring_mask)], style="arrow"))
    assert (found & ring_mask).any()


def test_an_outline_goes_around_the_mask_and_its_inside_can_still_be_seen() -> None:
    mask = np.zeros((100, 150), np.bool_)
    mask[20:60, 30:90] = True
    marked = draw_marks(np.full((100, 150, 3), 100, np.uint8), [Mask(mask)], style="mask")
    found = red(marked)
    assert not found[mask].any()
    assert found[18:20, 30:90].all()
    assert found[60:62, 30:90].all()
    assert found[20:60, 28:30].all()
    assert (marked[mask] == (131, 80, 80)).all()  # a fifth of red
    assert (marked[:10] == 100).all()


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_hand_goes_around_what_is_meant_and_wavers_a_little(seed: int) -> None:
    lines, columns = np.nonzero(red(draw_marks(plain(), [Box(60, 40, 89, 59)], hand=Random(seed))))
    radius = np.hypot((columns + 0.5 - 75) / (18 + 4), (lines + 0.5 - 50) / (12 + 4))
    assert 0.8 < radius.min() < radius.max() < 1.2
    angles = np.degrees(np.arctan2(lines - 50, columns - 75))
    assert len(np.unique(angles // 30 % 12)) == 12


def test_half_of_the_circles_of_a_hand_are_shaky_and_its_arrows_come_from_aside() -> None:
    ruled = red(draw_marks(plain(), [Box(60, 40, 89, 59)]))
    hands = [Random(seed) for seed in range(40)]
    off = [(red(draw_marks(plain(), [Box(60, 40, 89, 59)], hand=hand)) & ~ruled).mean() for hand in hands]
    assert 10 <= sum(share > 0.005 for share in off) <= 30
    tips = [red(draw_marks(plain(), [Point(10, 50)], style="arrow", hand=hand)) for hand in hands]
    tails = [np.argwhere(found)[np.argwhere(found)[:, 1].argmax()] for found in tips]
    assert np.ptp([line for line, _ in tails]) > 20  # the ruled one ends on line 50
    assert all(found[48:53, 8:13].any() for found in tips)


@settings(max_examples=30, deadline=None)
@example("box", 8, 8, 0.375, 0.375)  # as large as the picture
@given(
    st.sampled_from(STYLES),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_a_mark_is_seen_on_any_picture_and_leaves_it_as_it_was(
    style: MarkStyle, height: int, width: int, x: float, y: float
) -> None:
    picture = plain(height, width)
    marked = draw_marks(picture, [Point(x * width, y * height)], style=style)
    assert marked.shape == picture.shape
    assert marked.dtype == np.uint8
    assert (picture == 255).all()
    if min(height, width) >= 8:
        assert (marked != picture).any()


def test_every_prompt_gets_its_mark() -> None:
    prompts = [Point(20, 20), Scribble(((100, 70), (130, 90)))]
    found = red(draw_marks(plain(), prompts, style="box"))
    assert found[:40, :40].any()
    assert found[65:, 95:].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"style": "cloud"}, "circle, arrow, box, mask, got 'cloud'"),
        ({"color": "reddish"}, "'reddish' is no colour"),
        ({}, "outside the picture"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_marks(plain(), [Point(500, 5)], **options)
