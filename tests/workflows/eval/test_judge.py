from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import skimage.color
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from superlink.router.errors import InputError
from superlink.workflows.data.shapes import Scene, SceneConfig
from superlink.workflows.data.shapes.backgrounds import Background
from superlink.workflows.data.shapes.colors import PALETTES
from superlink.workflows.data.shapes.effects import Effects
from superlink.workflows.eval import foreign
from superlink.workflows.eval.foreign import PROGRAMS, Program, draw_foreign
from superlink.workflows.eval.judge import background_color, see
from superlink.workflows.eval.judge.colors import lab_of, name_of
from superlink.workflows.eval.judge.silhouettes import shape_of

ONE = SceneConfig(
    height=128, width=128, min_objects=1, max_objects=1, min_size=0.2, other_canvas=0.0, effects=0.0
)


def drawn(*polygons: tuple[str, list[tuple[float, float]]], paper: str = "white") -> np.ndarray:
    picture = Image.new("RGB", (128 * 4, 128 * 4), paper)
    draw = ImageDraw.Draw(picture)
    for color, corners in polygons:
        draw.polygon([(x * 4, y * 4) for x, y in corners], fill=color)
    return np.asarray(picture.reduce(4))


def square(x: float, y: float, half: float, degrees: float = 0.0) -> list[tuple[float, float]]:
    angles = np.deg2rad(degrees + 45 + 90 * np.arange(4))
    return [(x + half * 2**0.5 * np.cos(a), y + half * 2**0.5 * np.sin(a)) for a in angles]


def test_lab_is_that_of_skimage() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    np.testing.assert_allclose(lab_of(pixels), skimage.color.rgb2lab(pixels), atol=0.05)


def test_every_palette_colour_has_its_own_name() -> None:
    for name, palette in PALETTES.items():
        assert {name_of(lab_of(np.asarray(rgb, np.uint8))) for rgb in palette} == {name}


@pytest.mark.parametrize("program", PROGRAMS)
def test_single_things_by_other_programs_are_named(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    every = foreign._items
    monkeypatch.setattr(foreign, "_items", lambda *given: every(*given)[:1])
    right = []
    for seed in range(8):
        picture = draw_foreign(seed, program)
        (name,) = picture.boxes.names
        small = Image.fromarray(picture.pixels).filter(ImageFilter.GaussianBlur(0.7))
        noise = np.random.default_rng(seed).normal(0, 4, picture.pixels.shape)
        for pixels in (picture.pixels, np.clip(small + noise, 0, 255).astype(np.uint8)):
            largest = max(see(pixels), key=lambda seen: np.count_nonzero(seen.mask & picture.masks.masks[0]))
            right.append(largest.name == name and largest.is_recognised)
    assert np.mean(right) >= 0.97


def test_single_things_of_scenes_are_named_despite_blur_and_noise() -> None:
    right = []
    for seed in range(400, 560):
        scene = Scene.generate(seed, ONE)
        if scene.background.kind not in ("plain", "gradient") or scene.background.clutter != "none":
            continue
        scene = replace(scene, effects=Effects(blur=0.9, noise=4.0, seed=seed))
        (item,) = scene.objects
        seen = see(scene.image())
        right.append(bool(seen) and seen[0].name == f"{item.color} {item.shape}")
    assert len(right) > 60
    assert np.mean(right) >= 0.97


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(30, 98),
    y=st.floats(30, 98),
    half=st.floats(8, 18),
    degrees=st.floats(-18, 18),
    stands=st.booleans(),
)
def test_a_square_on_its_corner_is_a_diamond_wherever_it_is_and_however_large(
    x: float, y: float, half: float, degrees: float, stands: bool
) -> None:
    turn = degrees * (0.8 if stands else 1) + (45 if stands else 0)
    (seen,) = see(drawn(("red", square(x, y, half, turn))))
    assert seen.name == ("red diamond" if stands else "red square")
    assert seen.center == pytest.approx((x, y), abs=0.8)
    # Pillow fills every pixel that an edge touches: less than one more on each side.
    assert math.sqrt(seen.area) == pytest.approx(2 * half, abs=2)


def test_a_circle_with_a_hole_is_a_ring() -> None:
    ys, xs = np.mgrid[:60, :60] - 29.5
    disc = (np.hypot(xs, ys) < 24).astype(np.float32)
    assert shape_of(disc).shape == "circle"
    assert shape_of(disc * (np.hypot(xs, ys) > 13)).shape == "ring"


def test_a_square_drawn_as_a_line_is_a_square_of_the_colour_of_the_line() -> None:
    picture = drawn(("blue", square(60, 60, 25)), ("white", square(60, 60, 20)))
    assert [seen.name for seen in see(picture)] == ["blue square"]


def test_a_white_thing_with_a_fine_edge_is_white_on_white() -> None:
    picture = drawn(("black", square(60, 60, 25)), ("white", square(60, 60, 23.7)))
    assert [seen.name for seen in see(picture)] == ["white square"]


def test_an_edge_of_another_colour_does_not_make_a_second_thing() -> None:
    picture = drawn(("black", square(60, 60, 25)), ("orange", square(60, 60, 23)))
    assert [seen.name for seen in see(picture)] == ["orange square"]


def test_things_that_touch_are_seen_apart() -> None:
    triangle = [(64.0, 70.0), (104.0, 30.0), (104.0, 110.0)]
    seen = see(drawn(("green", square(40, 70, 24)), ("red", triangle)))
    assert {one.name for one in seen} == {"green square", "red triangle"}


HOOK = [(20.0, 20.0), (42.0, 20.0), (42.0, 88.0), (110.0, 88.0), (110.0, 110.0), (20.0, 110.0)]
BAR = [(10.0, 50.0), (118.0, 50.0), (118.0, 66.0), (10.0, 66.0)]


@pytest.mark.parametrize("corners", [HOOK, BAR])
def test_what_has_no_shape_of_the_world_is_not_recognised(corners: list[tuple[float, float]]) -> None:
    (seen,) = see(drawn(("red", corners)))
    assert (seen.color, seen.is_recognised) == ("red", False)


def test_an_empty_page_shows_nothing_and_has_a_colour() -> None:
    page = np.full((64, 80, 3), (30, 144, 255), np.uint8)
    assert see(page) == []
    assert background_color(page) == "blue"


def test_a_shaded_page_is_not_a_thing() -> None:
    page = Scene.generate(1, ONE).with_figures(())
    shaded = replace(page, background=Background(kind="gradient", colors=((230, 230, 250), (160, 160, 190))))
    assert see(shaded.image()) == []


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((8, 64, 3), np.uint8)],
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="a judged picture is"):
        see(pixels)
