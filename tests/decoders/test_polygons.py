from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from superlink.decoders.artifacts import tight_boxes
from superlink.decoders.polygons import _area, _rings, joined, outlines, simplified
from superlink.decoders.rle import mask_of

seeds = st.integers(0, 2**32 - 1)


def noise(seed: int, height: int, width: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    found: NDArray[np.bool_] = rng.random((height, width)) < rng.random()
    return found


def disc(radius: float, *, side: int = 64) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side]
    found: NDArray[np.bool_] = np.hypot(x - side / 2, y - side / 2) < radius
    return found


def filled(rings: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """By pycocotools."""
    return mask_of([ring.reshape(-1).tolist() for ring in rings], size=size)


@settings(max_examples=80)
@given(seeds, st.integers(1, 16), st.integers(1, 16))
def test_pycocotools_fills_an_outline_with_the_pixels_of_the_mask(seed: int, height: int, width: int) -> None:
    mask = noise(seed, height, width)
    rings = outlines(mask)
    if not mask.any():
        assert rings == []
        return
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    np.testing.assert_array_equal(filled([joined(rings)], mask.shape), mask)
    points = np.concatenate(rings)
    np.testing.assert_array_equal([*points.min(0), *points.max(0)], tight_boxes(mask[None])[0])


def around(hole: NDArray[np.float64], outer: list[NDArray[np.float64]]) -> int:
    """Which outline a hole lies in, by geometry: the smallest that has the pixel above its corner inside.

    A line from there to the right crosses such an outline an odd number of times.
    """
    x, y = hole[0] + (0.5, -0.5)
    inside = []
    for k, ring in enumerate(outer):
        (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
        crossed = (x0 == x1) & (x0 > x) & (np.minimum(y0, y1) < y) & (y < np.maximum(y0, y1))
        if crossed.sum() % 2:
            inside.append(k)
    return min(inside, key=lambda k: _area(outer[k]))


@settings(max_examples=80)
@given(seeds, st.integers(1, 24), st.integers(1, 24))
def test_holes_belong_to_the_smallest_outline_around_them(seed: int, height: int, width: int) -> None:
    mask = noise(seed, height, width)
    rings = _rings(mask)
    outer = [ring for ring in rings if _area(ring) > 0]
    holes: list[list[NDArray[np.float64]]] = [[] for _ in outer]
    for ring in rings:
        if _area(ring) < 0:
            holes[around(ring, outer)].append(ring)
    expected = [joined([one, *inside]) for one, inside in zip(outer, holes, strict=True)]
    found = outlines(mask)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_hole_is_joined_to_the_part_around_it() -> None:
    mask = np.zeros((20, 20), bool)
    mask[1:19, 1:19] = True
    mask[3:17, 3:17] = False
    mask[5:15, 5:15] = True  # a part inside a hole, with a hole of its own
    mask[8:12, 8:12] = False
    rings = outlines(mask)
    assert [len(ring) for ring in rings] == [10, 10]
    for ring in rings:
        assert filled([ring], mask.shape).sum() in (18 * 18 - 14 * 14, 10 * 10 - 4 * 4)


@pytest.mark.parametrize("tolerance", [0.75, 2.0])
def test_a_simplified_outline_has_few_points_and_keeps_close(tolerance: float) -> None:
    mask = disc(100, side=220)
    (true,), (rough,) = outlines(mask), outlines(mask, tolerance=tolerance)
    assert len(rough) < len(true) / 2
    assert filled([rough], mask.shape).sum() == pytest.approx(mask.sum(), rel=0.01)
    assert {tuple(point) for point in rough.tolist()} <= {tuple(point) for point in true.tolist()}
    # A pixel that changed sides lies no further than the tolerance (and its own half diagonal) from the edge.
    wrong = np.argwhere(filled([rough], mask.shape) != mask)[:, ::-1] + 0.5
    steps = np.linspace(0, 1, 20)[:, None, None]
    edge = (true + steps * (np.roll(true, -1, axis=0) - true)).reshape(-1, 2)
    for point in wrong:
        assert np.linalg.norm(edge - point, axis=1).min() <= tolerance + np.sqrt(0.5)


@settings(max_examples=40)
@given(seeds, st.floats(0.02, 0.1))
def test_nothing_vanishes_by_simplifying(seed: int, tolerance: float) -> None:
    mask = noise(seed, 9, 9).repeat(4, axis=0).repeat(3, axis=1)
    exact, rough = outlines(mask), outlines(mask, tolerance=tolerance)
    assert len(exact) == len(rough)
    assert all(len(ring) >= 3 for ring in rough)


def test_a_slanted_edge_becomes_a_line() -> None:
    mask = np.tri(64, dtype=bool)
    (ring,) = outlines(mask, tolerance=0.75)
    assert len(ring) <= 5
    assert simplified(ring, 0.0) is ring


def test_a_small_part_keeps_its_true_outline() -> None:
    mask = disc(12)
    (true,), (kept,) = outlines(mask), outlines(mask, tolerance=0.75)
    np.testing.assert_array_equal(true, kept)
