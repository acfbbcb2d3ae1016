from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as PlotPath

from superlink.workflows.data.shapes import EXTREMES, SHAPES, Scene, SceneConfig
from superlink.workflows.data.shapes.figures import Figure, geometry
from superlink.workflows.data.shapes.parts import Disc, Polygon
from superlink.workflows.data.shapes.raster import RASTERIZERS, rasterize

SEEDS = st.integers(min_value=0, max_value=2**40)
FEW = settings(max_examples=40, deadline=None)


def digest(scene: Scene) -> str:
    return hashlib.sha256(scene.image().tobytes() + repr(scene.figures).encode()).hexdigest()


@FEW
@given(SEEDS)
def test_the_same_seed_gives_the_same_pixels_and_labels(seed: int) -> None:
    first, again = Scene.generate(seed), Scene.generate(seed)
    assert digest(first) == digest(again)
    assert [item.box for item in first.objects] == [item.box for item in again.objects]


def test_different_seeds_give_different_pictures() -> None:
    assert len({digest(Scene.generate(seed)) for seed in range(60)}) == 60


def test_an_image_is_a_fresh_writable_copy() -> None:
    scene = Scene.generate(3)
    scene.image()[:] = 0
    assert scene.image().any()


@FEW
@given(SEEDS)
def test_boxes_are_tight_around_disjoint_visible_masks(seed: int) -> None:
    scene = Scene.generate(seed)
    masks = scene.masks({"thing": scene.objects})
    assert masks.masks.sum(axis=0).max() <= 1
    for mask, box in zip(masks.masks, masks.xyxy, strict=True):
        ys, xs = np.nonzero(mask)
        assert tuple(box) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@FEW
@given(SEEDS)
def test_every_object_stays_at_least_three_fifths_visible(seed: int) -> None:
    scene = Scene.generate(seed)
    margin = 300  # a canvas wide enough to hold what the picture cuts off
    for item in scene.objects:
        figure = replace(item.figure, cx=item.figure.cx + margin, cy=item.figure.cy + margin)
        wide = replace(
            scene, height=scene.height + 2 * margin, width=scene.width + 2 * margin, figures=(figure,)
        )
        assert item.area >= 0.6 * wide.objects[0].area


@pytest.mark.parametrize("rasterizer", RASTERIZERS)
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_masks_agree_with_the_geometry_pixel_by_pixel(shape: str, rasterizer: str) -> None:
    figure = Figure(
        shape=shape, color="red", rgb=(255, 0, 0), cx=101.3, cy=88.8, size=90.0, rotation=11.0, variant=3
    )
    (part,) = geometry(figure)[0]
    ys, xs = np.mgrid[0:224, 0:224] + 0.5
    if isinstance(part, Polygon):
        closed = np.concatenate([part.points, part.points[:1]])
        truth = PlotPath(closed).contains_points(np.stack([xs.ravel(), ys.ravel()], 1)).reshape(224, 224)
    else:
        assert isinstance(part, Disc)
        far = np.hypot(xs - part.x, ys - part.y)
        truth = (far <= part.radius) & (far >= part.hole)
    layer = rasterize(figure, rasterizer, 224, 224)
    mask = np.zeros((224, 224), dtype=bool)
    mask[layer.window] = layer.mask
    assert (mask & truth).sum() / (mask | truth).sum() > 0.93


@pytest.mark.parametrize("rasterizer", RASTERIZERS)
def test_a_figure_is_as_long_as_its_size_whatever_its_shape(rasterizer: str) -> None:
    for shape in SHAPES:
        figure = Figure(
            shape=shape, color="red", rgb=(255, 0, 0), cx=112, cy=112, size=100, rotation=9, variant=5
        )
        mask = rasterize(figure, rasterizer, 224, 224).mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert abs(max(np.ptp(rows), np.ptp(columns)) + 1 - 100) <= 2


@FEW
@given(SEEDS)
def test_keypoints_lie_in_the_box_of_their_person_or_are_cut_off(seed: int) -> None:
    scene = Scene.generate(seed, SceneConfig(shapes=("person", "circle"), max_objects=5))
    people = scene.select(shape="person")
    keypoints = scene.keypoints({"circle": scene.select(shape="circle"), "person": people})
    assert len(keypoints) == len(people)
    assert set(keypoints.labels.tolist()) <= {1}
    for item, xyv in zip(people, keypoints.xyv, strict=True):
        x0, y0, x1, y1 = item.box
        seen = xyv[xyv[:, 2] == 2]
        assert len(seen) >= 8
        assert ((seen[:, 0] >= x0) & (seen[:, 0] <= x1)).all()
        assert ((seen[:, 1] >= y0) & (seen[:, 1] <= y1)).all()


def test_a_person_faces_the_viewer_with_its_head_up() -> None:
    figure = Figure(shape="person", color="red", rgb=(255, 0, 0), cx=112, cy=112, size=120, variant=4)
    points = geometry(figure)[1]
    nose, left_shoulder, right_shoulder, left_ankle = points[0], points[5], points[6], points[15]
    assert left_shoulder[0] > right_shoulder[0]
    assert nose[1] < left_shoulder[1] < left_ankle[1]


@FEW
@given(SEEDS)
def test_superlatives_hold_for_every_other_object(seed: int) -> None:
    scene = Scene.generate(seed)
    centers = {item.index: item.center for item in scene.objects}
    areas = {item.index: item.mask.sum() for item in scene.objects}
    order = {
        "leftmost": min(centers, key=lambda i: centers[i][0]),
        "rightmost": max(centers, key=lambda i: centers[i][0]),
        "topmost": min(centers, key=lambda i: centers[i][1]),
        "bottommost": max(centers, key=lambda i: centers[i][1]),
        "largest": max(areas, key=lambda i: areas[i]),
        "smallest": min(areas, key=lambda i: areas[i]),
    }
    for extreme in EXTREMES:
        found = scene.superlative(extreme)
        assert found is None or found.index == order[extreme]


def test_a_close_call_has_no_superlative() -> None:
    base = Figure(shape="circle", color="red", rgb=(255, 0, 0), cx=60, cy=60, size=40)
    near = replace(base, cx=62, cy=160, size=42)
    scene = replace(Scene.generate(0), figures=(base, near))
    assert scene.superlative("leftmost") is None
    assert scene.superlative("largest") is None
    top = scene.superlative("topmost")
    assert top is not None
    assert top.figure is base


def test_groups_name_absent_classes_too() -> None:
    scene = Scene.generate(1)
    boxes = scene.boxes({"dragon": (), "thing": scene.objects})
    assert boxes.names == ("dragon", "thing")
    assert set(boxes.labels.tolist()) == {1}
    assert boxes.size == scene.size
    empty = scene.masks({"dragon": ()})
    assert empty.masks.shape == (0, *scene.size)


def test_canvases_vary_by_share() -> None:
    always = {Scene.generate(seed, SceneConfig(other_canvas=1.0)).size for seed in range(40)}
    assert len(always) > 35
    assert any(height > width for height, width in always)
    assert any(height < width for height, width in always)
    never = SceneConfig(other_canvas=0.0, height=96, width=128)
    assert {Scene.generate(seed, never).image().shape for seed in range(10)} == {(96, 128, 3)}
