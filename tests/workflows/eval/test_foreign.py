from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from superlink.router.errors import InputError
from superlink.workflows.data.shapes import COLOR_NAMES, SHAPES
from superlink.workflows.data.shapes.colors import color_name
from superlink.workflows.eval import foreign
from superlink.workflows.eval.foreign import CSS, PROGRAMS, Program, draw_foreign
from superlink.workflows.eval.outlines import OUTLINES


def test_foreign_pictures_show_the_shapes_and_colors_of_the_world() -> None:
    assert set(OUTLINES) == set(SHAPES)
    assert set(CSS) == set(COLOR_NAMES)
    for name, values in CSS.items():
        assert {color_name(ImageColor.getrgb(value)[:3]) for value in values} == {name}  # type: ignore[arg-type]


@pytest.mark.parametrize("program", PROGRAMS)
def test_labels_fit_what_the_program_drew(program: Program) -> None:
    """Inside a mask the picture has the named colour; outside the boxes it has almost none of it."""
    for seed in range(5):
        picture = draw_foreign(seed, program)
        height, width = picture.pixels.shape[:2]
        assert picture.boxes.size == (height, width)
        assert 0 < len(picture.boxes) < 8
        near_any = np.zeros((height, width), dtype=bool)
        for x0, y0, x1, y1 in picture.boxes.xyxy.astype(int):
            near_any[max(y0 - 2, 0) : y1 + 3, max(x0 - 2, 0) : x1 + 3] = True
        for label, mask in zip(picture.masks.labels, picture.masks.masks, strict=True):
            color = picture.masks.names[label].split()[0]
            reference = [ImageColor.getrgb(value)[:3] for value in CSS[color]]
            far = np.min([np.abs(picture.pixels.astype(int) - rgb).max(axis=2) for rgb in reference], axis=0)
            assert np.mean(far[mask] < 24) > 0.55
            if color not in ("black", "white", "gray"):
                assert np.mean(far[~near_any] < 24) < 0.01


@pytest.mark.parametrize("program", PROGRAMS)
def test_boxes_hold_their_masks_tightly(program: Program) -> None:
    for seed in range(5):
        picture = draw_foreign(seed, program)
        for box, mask in zip(picture.boxes.xyxy, picture.masks.masks, strict=True):
            ys, xs = np.nonzero(mask)
            tight = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(box - tight).max() <= 3.5


def test_the_same_seed_draws_the_same_picture() -> None:
    assert (draw_foreign(5).pixels == draw_foreign(5).pixels).all()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "find_spec", lambda name: None if name == "skimage" else object())
    with pytest.raises(InputError, match=r"drawn by skimage, .* install superlink\[dev\]"):
        foreign.check_programs()
