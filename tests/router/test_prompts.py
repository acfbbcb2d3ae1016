from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.router.errors import InputError
from superlink.router.messages import Box, Mask, Point, Prompt, Scribble
from superlink.router.prompts import POINT_RADIUS, plain_prompt, prompt_mask

SIZE = (40, 60)


def test_a_click_is_a_disc_around_the_pixel_that_was_hit() -> None:
    mask = prompt_mask(Point(100.5, 60.5), (200, 300))
    rows, columns = np.nonzero(mask)
    assert (columns.mean(), rows.mean()) == pytest.approx((100.5, 60.5), abs=1)
    radius = POINT_RADIUS * 300
    assert mask.sum() == pytest.approx(np.pi * radius**2, rel=0.25)


@given(x=st.floats(0, 59.99), y=st.floats(0, 39.99))
def test_a_click_always_covers_its_own_pixel(x: float, y: float) -> None:
    assert prompt_mask(Point(x, y), SIZE)[int(y), int(x)]


def test_a_click_in_a_picture_of_one_pixel_works() -> None:
    assert prompt_mask(Point(0, 0), (1, 1)).tolist() == [[True]]


def test_a_box_includes_its_right_and_bottom_pixels() -> None:
    mask = prompt_mask(Box(3, 5, 7, 6), SIZE)
    assert mask.sum() == 5 * 2
    assert mask[5:7, 3:8].all()


def test_a_box_that_hangs_over_the_edge_is_cut() -> None:
    mask = prompt_mask(Box(-10, -10, 2, 100), SIZE)
    assert mask.sum() == 3 * 40


def test_a_scribble_covers_the_pixels_between_its_points() -> None:
    mask = prompt_mask(Scribble(((5, 5), (50, 5), (50, 35))), SIZE)
    assert mask[5, 5:51].all()
    assert mask[5:36, 50].all()
    assert not mask[20, 20]


def test_a_scribble_of_one_point_is_a_click() -> None:
    assert np.array_equal(prompt_mask(Scribble(((20, 20),)), SIZE), prompt_mask(Point(20, 20), SIZE))


def test_a_painted_area_is_taken_as_it_is() -> None:
    painted = np.zeros(SIZE, dtype=np.bool_)
    painted[3:9, 4:10] = True
    assert np.array_equal(prompt_mask(Mask(painted), SIZE), painted)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Point(60, 5), r"point \(60, 5\) lies outside the picture of 60 x 40"),
        (Point(float("nan"), 5), "outside"),
        (Box(70, 5, 90, 9), r"box \(70, 5, 90, 9\) lies outside the picture of 60 x 40"),
        (Box(9, 5, 3, 9), "inside out"),
        (Box(0, 0, float("inf"), 9), "not finite"),
        (Scribble(((-5, -5), (-9, 3))), r"scribble from \(-5, -5\) .* 60 x 40"),
        (Scribble(()), "at least one point"),
        (Mask(np.zeros(SIZE, dtype=np.bool_)), "empty mask"),
        (Mask(np.ones((3, 4), dtype=np.bool_)), r"60 x 40 pixels; got an array of shape \(3, 4\)"),
    ],
)
def test_a_prompt_that_means_no_pixel_of_the_picture_is_refused_with_numbers(
    prompt: Point | Box | Scribble | Mask, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        prompt_mask(prompt, SIZE)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_prompts_of_numpy_mean_the_same_in_plain_numbers(number: type[np.generic]) -> None:
    x, y, z = (number(value) for value in (3, 5, 9))
    given = [Point(x, y), Box(x, y, z, z), Scribble(((x, y), (z, z))), Scribble(np.array([[x, y], [z, z]]))]  # type: ignore[arg-type]
    plain = [plain_prompt(one) for one in given]
    line = Scribble(((3, 5), (9, 9)))
    assert plain == [Point(3, 5), Box(3, 5, 9, 9), line, line]
    assert "np." not in repr(plain)
    for one in plain:
        assert prompt_mask(one, SIZE).any()


def test_a_mask_of_shares_is_painted_wherever_it_is_not_zero() -> None:
    shares = np.zeros(SIZE, np.float32)
    shares[3:9, 4:10] = 0.5
    plain = plain_prompt(Mask(shares))  # type: ignore[arg-type]
    assert isinstance(plain, Mask)
    assert plain.mask.dtype == np.bool_
    assert np.array_equal(plain.mask, shares > 0)


@pytest.mark.parametrize(
    "prompt",
    [Point("left", 5), Box(1, 2, None, 4), Scribble(((1, 2, 3),)), Point(10**400, 1)],  # type: ignore[arg-type]
)
def test_a_prompt_that_is_not_made_of_numbers_is_refused_in_one_line(prompt: Prompt) -> None:
    with pytest.raises(InputError, match="is made of numbers: ") as caught:
        plain_prompt(prompt)
    assert "\n" not in str(caught.value)
