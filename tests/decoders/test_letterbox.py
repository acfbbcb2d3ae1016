from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.decoders.letterbox import Letterbox, Size, common_frame, round_up, stack_pictures
from superlink.router.errors import InputError

sides = st.integers(min_value=1, max_value=3000)
limits = st.integers(min_value=16, max_value=1400)


@given(height=sides, width=sides, shortest=limits, longest=limits)
def test_the_scaled_picture_respects_both_limits(
    height: int, width: int, shortest: int, longest: int
) -> None:
    inner = Letterbox.fit((height, width), shortest=shortest, longest=longest).inner
    assert min(inner) >= 1
    assert min(inner) <= shortest
    assert max(inner) <= longest
    assert max(inner) == longest or abs(min(inner) - min(shortest, longest)) <= 1


@given(height=sides, width=sides, side=limits, data=st.data())
def test_points_and_boxes_go_to_the_frame_and_back(
    height: int, width: int, side: int, data: st.DataObject
) -> None:
    box = Letterbox.fit((height, width), shortest=side, longest=side)
    x = data.draw(st.floats(0, width))
    y = data.draw(st.floats(0, height))
    points = np.array([[x, y], [width, height]])
    there = box.points_to_frame(points)
    np.testing.assert_allclose(there[1], [box.inner[1], box.inner[0]], rtol=1e-12)
    np.testing.assert_allclose(box.points_to_picture(there), points, rtol=1e-12, atol=1e-9)
    boxes = np.array([[0.0, 0.0, x, y]])
    np.testing.assert_allclose(box.boxes_to_picture(box.boxes_to_frame(boxes)), boxes, rtol=1e-12, atol=1e-9)


@given(height=sides, width=sides, side=limits)
def test_relative_coordinates_do_not_depend_on_scale_or_padding(height: int, width: int, side: int) -> None:
    box = Letterbox.fit((height, width), shortest=side, longest=side)
    middle = box.points_to_frame(np.array([width * 0.25, height * 0.75]))
    np.testing.assert_allclose(middle / [box.inner[1], box.inner[0]], [0.25, 0.75], rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    edges=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0.3, 0.4), st.floats(0.3, 0.4)),
)
def test_a_mask_goes_to_the_frame_and_back_within_a_pixel(
    height: int, width: int, edges: tuple[float, float, float, float]
) -> None:
    left, top, across, down = edges
    mask = np.zeros((1, height, width), dtype=np.bool_)
    x0, y0 = int(left * width), int(top * height)
    x1, y1 = x0 + max(2, int(across * width)), y0 + max(2, int(down * height))
    mask[0, y0:y1, x0:x1] = True
    box = Letterbox.fit((height, width), shortest=96, longest=96)
    inner = box.masks_to_frame(mask)
    assert inner.shape == (1, *box.inner)
    logits = torch.zeros(1, 96, 96) - 5.0
    logits[:, : box.inner[0], : box.inner[1]] = torch.from_numpy(inner).float() * 10 - 5
    back = box.masks_to_picture(logits, stride=1)[0]
    eroded = np.zeros_like(mask[0])
    eroded[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = True
    dilated = np.zeros_like(mask[0])
    dilated[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = True
    assert not (eroded & ~back).any()
    assert not (back & ~dilated).any()


@pytest.mark.parametrize("size", [(1600, 1601), (1601, 1600), (1603, 1600)])
def test_halves_of_a_pixel_go_up_as_in_the_published_pipeline(size: Size) -> None:
    """At exactly half the size; mmcv's `rescale_size` takes int(side * scale + 0.5)."""
    inner = Letterbox.fit(size, shortest=800, longest=1333).inner
    assert inner == tuple((side + 1) // 2 for side in size)


def test_no_masks_stay_no_masks() -> None:
    box = Letterbox.fit((30, 50), shortest=64, longest=64)
    assert box.masks_to_frame(np.zeros((0, 30, 50), dtype=np.bool_)).shape == (0, *box.inner)
    assert box.masks_to_picture(torch.zeros(0, 16, 16), stride=4).shape == (0, 30, 50)


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000), (20_000, 10), (1, 3)])
def test_extreme_pictures_keep_at_least_one_pixel(size: tuple[int, int]) -> None:
    box = Letterbox.fit(size, shortest=224, longest=224)
    picture = np.full((*size, 3), 255, dtype=np.uint8)
    pixels, valid = stack_pictures([picture], [box], frame=(224, 224), mean=(0, 0, 0), std=(1, 1, 1))
    assert max(box.inner) == 224
    assert int(valid.sum()) == box.inner[0] * box.inner[1]
    assert torch.equal((pixels[0] > 0.99).all(0), valid[0])
    assert box.masks_to_picture(torch.ones(1, 56, 56), stride=4).all()


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(InputError, match="0 x 5"):
        Letterbox.fit((0, 5), shortest=8, longest=8)


def test_pixels_are_normalised_and_padding_is_zero() -> None:
    picture = np.full((32, 16, 3), 51, dtype=np.uint8)
    box = Letterbox.fit((32, 16), shortest=32, longest=32)
    pixels, valid = stack_pictures(
        [picture], [box], frame=(32, 32), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25)
    )
    expected = torch.tensor([(0.2 - 0.1) / 0.5, 0.0, (0.2 - 0.3) / 0.25])
    torch.testing.assert_close(pixels[0, :, 0, 0], expected)
    assert (pixels[0][:, ~valid[0]] == 0).all()


def test_a_batch_shares_the_smallest_frame_of_whole_multiples() -> None:
    boxes = [Letterbox(size=(1, 1), inner=(33, 64)), Letterbox(size=(1, 1), inner=(10, 65))]
    assert common_frame(boxes) == (64, 96)
    assert round_up(64, 32) == 64


@pytest.mark.parametrize(("size", "inner"), [((22, 1), (32, 1)), ((64, 2), (32, 1)), ((64, 1), (1, 1))])
def test_masks_that_become_one_pixel_wide_keep_their_place(size: Size, inner: Size) -> None:
    mask = np.zeros((1, *size), dtype=np.bool_)
    mask[:, : size[0] // 2] = True
    (found,) = Letterbox(size=size, inner=inner).masks_to_frame(mask)
    assert found.shape == inner
    rows = np.flatnonzero(found[:, 0])
    assert rows.tolist() == list(range(max(inner[0] // 2, 1)))
