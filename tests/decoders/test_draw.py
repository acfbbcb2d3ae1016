from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture, Text, tight_boxes
from superlink.decoders.draw import LEAST_SIDE, color_of, draw, side_by_side
from superlink.router.errors import InputError


def boxes(*xyxy: tuple[float, float, float, float], size: tuple[int, int], names: tuple[str, ...]) -> Boxes:
    return Boxes(
        xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
        scores=np.full(len(xyxy), 0.9, np.float32),
        labels=np.arange(len(xyxy)),
        names=names,
        size=size,
    )


def test_a_small_picture_is_enlarged_by_a_whole_number_and_boxes_follow() -> None:
    image = np.full((100, 200, 3), 255, np.uint8)
    drawn = draw(image, [boxes((50, 40, 150, 80), size=(100, 200), names=("star",))]).pixels
    assert drawn.shape == (400, 800, 3)
    changed = np.argwhere((drawn != 255).any(-1))
    assert changed[:, 1].min() == pytest.approx(200, abs=3)
    assert changed[:, 1].max() == pytest.approx(600, abs=3)
    assert changed[:, 0].max() == pytest.approx(320, abs=3)
    np.testing.assert_array_equal(image, 255)


def test_every_phrase_has_its_own_colour_and_equal_phrases_share_one() -> None:
    size = (LEAST_SIDE, LEAST_SIDE)
    first = boxes((50, 50, 150, 150), (300, 50, 400, 150), size=size, names=("star", "ring"))
    again = boxes((50, 300, 150, 400), size=size, names=("star",))
    drawn = draw(np.zeros((*size, 3), np.uint8), [first, again]).pixels

    def edge(x: int, y: int) -> tuple[int, ...]:
        return tuple(drawn[y, x].tolist())

    star, ring, other = edge(100, 150), edge(350, 150), edge(100, 400)
    assert star == other
    assert star != ring
    assert "#{:02x}{:02x}{:02x}".format(*star) == color_of(0)


def test_a_mask_is_tinted_inside_and_untouched_far_outside() -> None:
    size = (LEAST_SIDE, LEAST_SIDE)
    mask = np.zeros((1, *size), bool)
    mask[0, 300:500, 300:500] = True
    found = Masks(
        masks=mask,
        xyxy=tight_boxes(mask),
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=("heart",),
        size=size,
    )
    drawn = found.draw(np.full((*size, 3), 100, np.uint8)).pixels
    assert (drawn[400, 400] != 100).any()
    np.testing.assert_array_equal(drawn[100, 100], 100)


def test_keypoints_without_known_names_are_dots_and_hidden_ones_are_left_out() -> None:
    size = (LEAST_SIDE, LEAST_SIDE)
    points = Keypoints(
        xyv=np.asarray([[[200, 300, 2], [400, 300, 1], [300, 500, 0]]], np.float32),
        keypoint_names=("a", "b", "c"),
        xyxy=np.asarray([[200, 250, 400, 500]], np.float32),
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=("thing",),
        size=size,
    )
    drawn = draw(np.zeros((*size, 3), np.uint8), [points]).pixels
    assert [drawn[y, x].any() for x, y in ((200, 300), (400, 300), (300, 500))] == [True, True, False]


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (2000, 10)])
def test_odd_pictures_can_be_drawn_on(shape: tuple[int, int]) -> None:
    height, width = shape
    drawn = draw(
        np.zeros((*shape, 3), np.uint8), [boxes((0, 0, width, height), size=shape, names=("größtes",))]
    )
    assert drawn.pixels.shape[2] == 3
    assert max(drawn.pixels.shape) >= LEAST_SIDE


def test_nothing_found_gives_the_picture_alone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (LEAST_SIDE, 50, 3), dtype=np.uint8)
    nothing = boxes(size=(LEAST_SIDE, 50), names=("star",))
    np.testing.assert_array_equal(draw(image, [nothing, Text(text="none")]).pixels, image)


def test_an_artifact_of_another_picture_is_refused() -> None:
    with pytest.raises(InputError, match=r"size \[4, 4\] cannot be drawn on one of size \[8, 8\]"):
        draw(np.zeros((8, 8, 3), np.uint8), [boxes(size=(4, 4), names=())])


def test_many_phrases_still_have_colours_of_their_own() -> None:
    assert len({color_of(k) for k in range(80)}) == 80


def test_a_saved_picture_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    path = Picture(pixels=pixels).save(tmp_path / "new" / "out.png")
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(opened), pixels)
    assert [one.name for one in path.parent.iterdir()] == ["out.png"]


def test_a_place_that_cannot_be_written_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    picture = Picture(pixels=np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match=r"end the name in \.png"):
        picture.save(tmp_path / "out.picture")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="cannot write"):
        picture.save(tmp_path / "file" / "out.png")
    assert (tmp_path / "file").read_text() == "kept"


def test_pictures_stand_side_by_side_as_high_as_the_first() -> None:
    first = np.full((100, 50, 3), 7, np.uint8)
    second = np.zeros((10, 40, 3), np.uint8)
    second[:, 20:] = 200
    shown = side_by_side([Picture(pixels=first), Picture(pixels=second)]).pixels
    assert shown.shape[0] == 100
    np.testing.assert_array_equal(shown[:, :50], first)
    right = shown[:, -400:]  # ten times as large
    assert (shown[:, 50:-400] == 255).all()
    assert shown[:, 50:-400].shape[1] > 0
    assert (right[:, :180] == 0).all()
    assert (right[:, 220:] == 200).all()
    np.testing.assert_array_equal(side_by_side([Picture(pixels=second)]).pixels, second)
    with pytest.raises(InputError, match="no picture"):
        side_by_side([])
