"""Steps on pictures and artifacts, against plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink import Boxes, Image, InputError, Keypoints, Masks, StepError, Workflow, steps
from superlink.decoders.artifacts import equal, tight_boxes
from superlink.workflows.graph.image import uncropped

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def photo() -> Image:
    return Image.of(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def boxes(*xyxy: tuple[float, ...], scores: Any = None, phrases: Any = None, size: Any = None) -> Boxes:
    names = tuple(dict.fromkeys(phrases or ["thing"]))
    return Boxes(
        xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
        scores=np.asarray(scores or [1.0] * len(xyxy), np.float32),
        labels=np.asarray([names.index(one) for one in phrases or ["thing"] * len(xyxy)], np.int64),
        names=names,
        size=size or (HEIGHT, WIDTH),
    )


def run(step: Any, *values: Any, types: Any = None) -> Any:
    """One step through a workflow."""
    wf = Workflow("one")
    kinds = types or [type(value) for value in values]
    handles = [wf.input(f"i{k}", kind) for k, kind in enumerate(kinds)]
    wf.output("y", step(*handles))
    return wf.invoke({f"i{k}": value for k, value in enumerate(values)})["y"]


def test_a_crop_is_that_part_of_the_picture_and_knows_where_it_was(photo: Image) -> None:
    crops = run(steps.crop(), photo, boxes((10, 5, 20, 25), (0.4, 0.6, 3.2, 3.5)))
    assert np.array_equal(crops[0].pixels, photo.pixels[5:25, 10:20])
    assert np.array_equal(crops[1].pixels, photo.pixels[0:4, 0:4])
    assert crops[0].window.source == photo.id
    assert (crops[1].window.left, crops[1].window.top, crops[1].window.index) == (0, 0, 1)
    (scaled,) = run(steps.crop(scale=1.5, margin=2), photo, boxes((10, 10, 20, 20)))
    assert np.array_equal(scaled.pixels, photo.pixels[5:25, 5:25])
    (cut,) = run(steps.crop(scale=3), photo, boxes((50, 30, 60, 40)))
    assert np.array_equal(cut.pixels, photo.pixels[20:40, 40:60])


def test_a_box_without_area_still_gives_a_pixel(photo: Image) -> None:
    (crop,) = run(steps.crop(), photo, boxes((60, 40, 60, 40)))
    assert crop.size == (1, 1)


@given(st.integers(0, 50), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20), st.integers(0, 10**6))
def test_what_is_found_in_a_crop_lies_on_the_same_pixels_of_the_picture(
    left: int, top: int, width: int, height: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    photo = Image.of(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    crop = photo.crop(left, top, left + width, top + height)
    masks = rng.random((2, *crop.size)) < 0.5
    rows: dict[str, Any] = {
        "xyxy": tight_boxes(masks),
        "scores": np.ones(2, np.float32),
        "labels": np.zeros(2, np.int64),
        "names": ("x",),
        "size": crop.size,
    }
    back = uncropped(Masks(masks=masks, **rows), crop)
    for mine, theirs in zip(masks, back.masks, strict=True):
        assert np.array_equal(photo.pixels[theirs], crop.pixels[mine])
    assert np.array_equal(back.xyxy, tight_boxes(back.masks)) or not masks.any((1, 2)).all()
    moved = uncropped(Boxes(**rows), crop)
    assert np.array_equal(moved.xyxy - rows["xyxy"], np.tile([crop.window.left, crop.window.top], (2, 2)))  # type: ignore[union-attr]
    points = np.asarray([[[1, 1, 2], [0, 0, 0]]] * 2, np.float32)
    found = uncropped(Keypoints(xyv=points, keypoint_names=("a", "b"), **rows), crop)
    assert found.xyv[0, 0].tolist() == [1 + min(left, WIDTH - 1), 1 + min(top, HEIGHT - 1), 2]
    assert found.xyv[0, 1].tolist() == [0, 0, 0]


def test_a_picture_that_is_no_crop_has_nothing_to_map_back(photo: Image) -> None:
    with pytest.raises(StepError, match="not a crop") as caught:
        run(steps.uncrop(), boxes((0, 0, 1, 1)), photo)
    assert caught.value.kind == "input"


def test_items_are_selected_by_score_size_and_position() -> None:
    items = boxes((0, 0, 4, 4), (10, 20, 30, 40), (50, 5, 52, 9), scores=[0.5, 0.2, 0.9])
    first = {
        "best": 2, "worst": 1, "largest": 1, "smallest": 2,
        "leftmost": 0, "rightmost": 2, "topmost": 0, "bottommost": 1,
    }  # fmt: skip
    for which, row in first.items():
        assert run(steps.select(which), items).xyxy.tolist() == [items.xyxy[row].tolist()]
    assert run(steps.select("leftmost", count=2), items).scores.tolist() == pytest.approx([0.5, 0.2])


def test_items_are_filtered_by_score_phrase_and_area() -> None:
    items = boxes((0, 0, 30, 20), (0, 0, 6, 4), scores=[0.5, 0.9], phrases=["a", "b"])
    assert len(run(steps.filter(score=0.6), items)) == 1
    assert run(steps.filter(phrase="a"), items).phrases == ("a",)
    assert len(run(steps.filter(phrase="nothing"), items)) == 0
    assert run(steps.filter(least=0.2), items).phrases == ("a",)
    assert run(steps.filter(most=0.2), items).phrases == ("b",)


def test_merging_keeps_names_and_drops_worse_doubles() -> None:
    one = boxes((0, 0, 10, 10), scores=[0.5], phrases=["a"])
    other = boxes((1, 0, 10, 10), (30, 0, 40, 10), scores=[0.9, 0.3], phrases=["a", "b"])
    wf = Workflow("merge")
    a, b = wf.input("a", Boxes), wf.input("b", Boxes)
    wf.output("all", steps.merge()(a, b))
    wf.output("few", steps.merge(iou=0.5)(a, b))
    found = wf.invoke({"a": one, "b": other})
    assert found["all"].phrases == ("a", "a", "b")
    assert found["all"].scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found["few"].xyxy.tolist() == [[1, 0, 10, 10], [30, 0, 40, 10]]


def test_merging_nothing_gives_nothing_of_that_picture(photo: Image) -> None:
    wf = Workflow("nothing")
    image = wf.input("photo", Image)
    items = wf.input("items", Masks)
    crops = steps.crop()(image, items)

    @steps.step
    def find(crop: Image) -> Masks:
        raise AssertionError

    back = steps.uncrop()(find(crops), crops)
    wf.output("merged", steps.merge()(back, image=image))
    wf.output("drawn", steps.draw()(image, steps.merge(name="plain")(back)))
    none = Masks(
        masks=np.zeros((0, HEIGHT, WIDTH), np.bool_), xyxy=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64), names=(), size=(HEIGHT, WIDTH),
    )  # fmt: skip
    found = wf.invoke({"photo": photo, "items": none})
    assert isinstance(found["merged"], Masks)
    assert equal(found["merged"], none, ignore=["origin"])
    assert found["drawn"].pixels.shape[0] >= HEIGHT


def test_what_is_masked_out_cannot_be_seen_and_the_rest_is_untouched(photo: Image) -> None:
    items = boxes((10, 5, 20, 25))
    inside = np.zeros((HEIGHT, WIDTH), np.bool_)
    inside[5:25, 10:20] = True
    filled = run(steps.mask_out(color=(1, 2, 3)), photo, items).pixels
    assert (filled[inside] == [1, 2, 3]).all()
    assert np.array_equal(filled[~inside], photo.pixels[~inside])
    kept = run(steps.mask_out(outside=True), photo, items).pixels
    assert np.array_equal(kept[inside], photo.pixels[inside])
    assert (kept[~inside] == 0).all()
    for mode in ("blur", "pixelate"):
        hidden = run(steps.mask_out(mode, strength=8), photo, items).pixels
        assert np.array_equal(hidden[~inside], photo.pixels[~inside])
        assert hidden[inside].std() < photo.pixels[inside].std() / 2


def test_pictures_stand_side_by_side(photo: Image) -> None:
    wf = Workflow("row")
    image = wf.input("photo", Image)
    crops = steps.crop()(image, wf.input("items", Boxes))
    wf.output("row", steps.stack()(crops))
    wf.output("pair", steps.stack(name="pair")(image, image))
    found = wf.invoke({"photo": photo, "items": boxes((0, 0, 10, 20), (5, 5, 15, 25))})
    assert found["row"].pixels.shape[0] == 20
    assert np.array_equal(found["row"].pixels[:, -10:], photo.pixels[5:25, 5:15])
    assert np.array_equal(found["pair"].pixels[:, :WIDTH], photo.pixels)


def test_items_of_another_picture_are_refused(photo: Image) -> None:
    for step in (steps.crop(), steps.mask_out()):
        with pytest.raises(StepError, match="do not belong"):
            run(step, photo, boxes((0, 0, 1, 1), size=(7, 7)))


def test_pictures_are_read_from_whatever_holds_them(photo: Image, tmp_path: Any) -> None:
    from PIL import Image as Pillow

    path = tmp_path / "photo.png"
    Pillow.fromarray(photo.pixels).save(path)
    wf = Workflow("read")
    image = wf.input("photo", Image)
    wf.output("photo", image)
    for given_as in (str(path), path, path.read_bytes(), Pillow.open(path), photo.pixels, photo):
        assert wf.invoke(given_as)["photo"].id == photo.id
    (tmp_path / "broken.png").write_text("no picture")
    results = wf.batch([path, tmp_path / "broken.png", tmp_path / "missing.png"], errors="return")
    assert [result.ok for result in results] == [True, False, False]
    assert isinstance(results[1].__cause__, InputError)
    assert results[2].step == "photo"


def test_a_condition_of_items_compares_their_number() -> None:
    empty = steps.compare("==", 0)
    assert empty(boxes())
    assert not empty(boxes((0, 0, 1, 1)))
    assert steps.compare("!=", "yes")("no")
