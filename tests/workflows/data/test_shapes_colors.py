from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import CSS4_COLORS, TABLEAU_COLORS, to_rgb
from skimage.color import rgb2lab

from superlink.workflows.data.shapes import COLOR_NAMES, Scene, SceneConfig
from superlink.workflows.data.shapes.colors import PALETTES, color_name, lab, sample_color

CHANNEL = st.integers(min_value=0, max_value=255)


def rgb_of(name: str) -> tuple[int, int, int]:
    r, g, b = (round(channel * 255) for channel in to_rgb(name))
    return r, g, b


@pytest.mark.parametrize("name", COLOR_NAMES)
def test_css_and_tableau_colors_have_the_names_that_plotting_programs_give_them(name: str) -> None:
    assert color_name(rgb_of(CSS4_COLORS[name])) == name
    tableau = TABLEAU_COLORS.get(f"tab:{name}")
    assert tableau is None or color_name(rgb_of(tableau)) == name


def test_every_palette_color_lies_in_its_own_region() -> None:
    assert [(n, c) for n, palette in PALETTES.items() for c in palette if color_name(c) != n] == []


@pytest.mark.parametrize("name", ["teal", "magenta", "maroon", "khaki", "lavender", "tomato", "coral"])
def test_colors_that_people_call_something_else_have_no_name(name: str) -> None:
    assert color_name(rgb_of(name)) is None


@given(st.sampled_from(COLOR_NAMES), st.integers(min_value=0, max_value=2**32))
def test_jitter_never_leaves_the_name(name: str, seed: int) -> None:
    assert color_name(sample_color(np.random.default_rng(seed), name)) == name


@given(CHANNEL, CHANNEL, CHANNEL)
def test_lab_agrees_with_another_implementation(r: int, g: int, b: int) -> None:
    np.testing.assert_allclose(lab((r, g, b)), rgb2lab(np.array([r, g, b]) / 255), atol=0.05)


def test_most_pixels_of_an_object_are_nearest_to_its_color_name() -> None:
    """Nearest by Lab distance to the colours that matplotlib knows under these names."""
    anchors = [(name, rgb_of(name)) for name in COLOR_NAMES]
    anchors += [(name[4:], rgb_of(name)) for name in TABLEAU_COLORS if name[4:] in COLOR_NAMES]
    anchors += [("green", (0, 255, 0)), ("pink", (255, 105, 180)), ("pink", (233, 30, 99))]
    anchors += [("purple", (147, 112, 219)), ("blue", (0, 0, 128)), ("blue", (30, 144, 255))]
    anchors += [("yellow", (255, 215, 0)), ("gray", (192, 192, 192)), ("cyan", (64, 224, 208))]
    table = rgb2lab(np.array([rgb for _, rgb in anchors])[None] / 255)[0]
    names = np.array([name for name, _ in anchors])
    right, total = 0, 0
    for seed in range(80):
        scene = Scene.generate(seed, SceneConfig(effects=0))
        pixels = rgb2lab(scene.image())
        for item in scene.objects:
            if item.figure.stroke_rgb is not None:
                continue
            distances = np.linalg.norm(pixels[item.mask][:, None] - table, axis=-1)
            total += 1
            right += np.mean(names[distances.argmin(axis=1)] == item.color) > 0.5
    assert total > 120
    assert right / total > 0.97
