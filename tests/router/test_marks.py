"""Marks on pictures, against what each shape is by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
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
    marked = draw_marks(plain(), [Box(60, 40, 90, 60)], color="red")
    found = red(marked)
    assert not found[40:61, 60:91].any()
    lines, columns = np.nonzero(found)
    # Every pixel of the ring solves the equation of an ellipse around the box's middle.
    radius = np.hypot((columns - 75) / (15 * np.sqrt(2) + 2), (lines - 50) / (10 * np.sqrt(2) + 2))
    assert 0.8 < radius.min() < radius.max() < 1.1
    angles = np.degrees(np.arctan2(lines - 50, columns - 75))
    assert len(np.unique(angles // 30 % 12)) == 12  # all the way round


def test_a_box_is_the_rectangle_around_what_is_meant() -> None:
    mask = np.zeros((100, 150), np.bool_)
    mask[20:50, 30:80] = np.tri(30, 50, 20, dtype=np.bool_)
    lines, columns = np.nonzero(red(draw_marks(plain(), [Mask(mask)], style="box", color="red")))
    inside = np.argwhere(mask)
    assert (lines.min(), columns.min()) == tuple(inside.min(0))
    assert (lines.max(), columns.max()) == tuple(inside.max(0))


def test_the_tip_of_an_arrow_lies_on_what_is_meant() -> None:
    for x, y in ((10, 10), (140, 10), (10, 90), (140, 90)):
        marked = draw_marks(plain(), [Point(x, y)], style="arrow", color="red")
        lines, columns = np.nonzero(red(marked))
        far = np.hypot(columns - x, lines - y)
        assert far.min() <= 3
        assert far.max() == pytest.approx(20, abs=4)  # a fifth of the shorter side
        assert (far < 21 + 3).all()


def test_an_outline_is_the_edge_of_the_mask_and_nothing_inside() -> None:
    mask = np.zeros((100, 150), np.bool_)
    mask[20:60, 30:90] = True
    marked = draw_marks(plain(), [Mask(mask)], style="mask", color="red")
    found = red(marked)
    assert (found & ~mask).sum() == 0
    assert found[20, 30:90].all()
    assert found[20:60, 30].all()
    assert (marked[25:55, 35:85] == 255).all()
    assert (marked[19, 30:90] == 0).all()  # the rim


@settings(max_examples=30, deadline=None)
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
    found = red(draw_marks(plain(), prompts, style="box", color="red"))
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
