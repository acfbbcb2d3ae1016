from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from superlink.decoders import coco, rle
from superlink.decoders.artifacts import Boxes, Keypoints, Masks, equal, tight_boxes
from superlink.decoders.detections import from_detections, from_keypoints, import_supervision
from superlink.decoders.export import from_json
from superlink.decoders.png import load_masks
from superlink.router.errors import InputError

NAMES = ("red circle", "star", "Ball")


def random_boxes(seed: int, rows: int, size: tuple[int, int] = (20, 30)) -> Boxes:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 15, (rows, 2))
    xyxy = np.concatenate([low, low + rng.integers(1, 6, (rows, 2))], axis=1).astype(np.float32)
    return Boxes(
        xyxy=xyxy,
        scores=np.round(rng.random(rows), 2).astype(np.float32),
        labels=rng.integers(0, len(NAMES), rows),
        names=NAMES,
        size=size,
    )


def random_masks(seed: int, rows: int, size: tuple[int, int] = (9, 13)) -> Masks:
    rng = np.random.default_rng(seed)
    masks = rng.random((rows, *size)) < rng.random((rows, 1, 1))
    return Masks(
        masks=masks,
        xyxy=tight_boxes(masks),
        scores=np.ones(rows, np.float32),
        labels=rng.integers(0, len(NAMES), rows),
        names=NAMES,
        size=size,
    )


def counted_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths by walking over the pixels, column by column."""
    runs, inside = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if bool(mask[y, x]) != inside:
                inside = not inside
                runs.append(0)
            runs[-1] += 1
    return runs


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_run_lengths_are_those_of_walking_over_the_pixels(seed: int, height: int, width: int) -> None:
    mask = random_masks(seed, 1, (height, width)).masks[0]
    encoded = rle.encode(mask[None])[0]
    by_hand = coco_mask.frPyObjects({"size": [height, width], "counts": counted_runs(mask)}, height, width)
    assert encoded == {"size": [height, width], "counts": by_hand["counts"].decode()}


@settings(max_examples=60)
@given(seeds, st.integers(0, 3), st.integers(1, 200), st.integers(1, 30))
def test_masks_come_back_from_run_lengths(seed: int, rows: int, height: int, width: int) -> None:
    masks = random_masks(seed, rows, (height, width)).masks
    np.testing.assert_array_equal(rle.decode(rle.encode(masks), size=(height, width)), masks)


@given(seeds)
def test_plain_counts_describe_the_same_mask_as_compressed_ones(seed: int) -> None:
    mask = random_masks(seed, 1).masks[0]
    plain = {"size": list(mask.shape), "counts": counted_runs(mask)}
    np.testing.assert_array_equal(rle.mask_of(plain, size=mask.shape), mask)


def test_a_polygon_covers_the_pixels_it_encloses() -> None:
    mask = rle.mask_of([[2, 1, 6, 1, 6, 4, 2, 4], [8, 0, 10, 0, 10, 2, 8, 2]], size=(6, 12))
    expected = np.zeros((6, 12), bool)
    expected[1:4, 2:6] = True
    expected[0:2, 8:10] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([], "at least one polygon"),
        ([[1, 2, 3, 4]], "at least three x, y pairs"),
        ([[1, 2, 3, 4, 5, float("nan")]], "pairs of numbers"),
        ("polygon", "got str"),
        ({"size": [3, 4]}, "got dict"),
        ({"size": [3, 4], "counts": [20]}, r"of size \[3, 4\], this picture is \[4, 5\]"),
        ({"size": [4, 5], "counts": [19]}, "cover 19 pixels, the picture has 20"),
        ({"size": [4, 5], "counts": [-1, 21]}, "non-negative"),
        ({"size": [4, 5], "counts": "\u00e9"}, "cannot contain"),
        ({"size": [4, 5], "counts": "o"}, "end in the middle"),
        ({"size": [4, 5], "counts": "5"}, "cover 5 pixels"),
    ],
)
def test_a_damaged_mask_is_refused_in_words(segmentation: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        rle.mask_of(segmentation, size=(4, 5))


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_any_string_of_counts_is_a_mask_or_an_error_never_a_crash(counts: str) -> None:
    try:
        mask = rle.mask_of({"size": [4, 5], "counts": counts}, size=(4, 5))
    except InputError:
        return
    assert mask.shape == (4, 5)


@given(seeds, st.integers(0, 5))
def test_boxes_come_back_from_coco_annotations(seed: int, rows: int) -> None:
    found = random_boxes(seed, rows)
    written = json.loads(json.dumps(found.to_coco(image_id=7)))
    assert all(row["image_id"] == 7 for row in written)
    names = {k + 1: name for k, name in enumerate(NAMES)}
    assert equal(coco.boxes_of(written, names=names, size=found.size), found, atol=1e-6)


@given(seeds, st.integers(0, 4))
def test_masks_come_back_from_coco_annotations(seed: int, rows: int) -> None:
    found = random_masks(seed, rows)
    written = json.loads(json.dumps(found.to_coco()))
    names = {k + 1: name for k, name in enumerate(NAMES)}
    assert equal(coco.masks_of(written, names=names, size=found.size), found)


def test_keypoints_come_back_from_coco_annotations() -> None:
    points = some_keypoints()
    written = json.loads(json.dumps(points.to_coco()))
    assert written[0]["num_keypoints"] == 2
    back = coco.keypoints_of(
        written, names={1: "person"}, keypoint_names=("nose", "eye", "ear"), size=(20, 30)
    )
    assert equal(back, points, atol=1e-6)
    with pytest.raises(InputError, match="2 keypoints are 6 numbers, got 9"):
        coco.keypoints_of(written, names={1: "person"}, keypoint_names=("nose", "eye"), size=(20, 30))


def test_pycocotools_reads_a_written_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = {"a.png": random_masks(1, 3), "b.png": random_boxes(2, 2), "c.png": some_keypoints()}
    path = tmp_path / "found.json"
    path.write_text(json.dumps(coco.dataset(pictures)))
    read = COCO(str(path))
    assert [image["file_name"] for image in read.loadImgs(read.getImgIds())] == list(pictures)
    assert [one["name"] for one in read.loadCats(read.getCatIds())] == [*NAMES, "person"]
    drawn = [read.annToMask(one) for one in read.loadAnns(read.getAnnIds(imgIds=[1]))]
    np.testing.assert_array_equal(np.stack(drawn).astype(bool), pictures["a.png"].masks)
    boxes = [one["bbox"] for one in read.loadAnns(read.getAnnIds(imgIds=[2]))]
    x0, y0, x1, y1 = pictures["b.png"].xyxy.T
    np.testing.assert_array_equal(boxes, np.stack([x0, y0, x1 - x0, y1 - y0], axis=1))


def test_a_category_has_the_keypoints_of_its_own_annotations() -> None:
    person = some_keypoints()
    face = replace(
        person,
        xyv=np.asarray([[[7, 8, 2], [3, 4, 1]], [[2, 2, 2], [1, 1, 2]]], np.float32),
        keypoint_names=("chin", "nose"),
        xyxy=np.repeat(person.xyxy, 2, axis=0),
        scores=np.ones(2, np.float32),
        labels=np.asarray([1, 0]),
        names=("person", "cat"),
    )
    pictures = {"a.png": person, "b.png": face, "c.png": random_boxes(2, 2)}
    written = json.loads(json.dumps(coco.dataset(pictures)))
    points = {one["name"]: one.get("keypoints") for one in written["categories"]}
    assert points == {
        "person": ["nose", "eye", "ear", "chin"],
        "cat": ["chin", "nose"],
        **dict.fromkeys(NAMES),
    }
    of_person, of_cat, again = (one["keypoints"] for one in written["annotations"][:3])
    assert of_person == [1, 2, 2, 5, 6, 1, 0, 0, 0, 0, 0, 0]
    assert of_cat == [7, 8, 2, 3, 4, 1]
    assert again == [1, 1, 2, 0, 0, 0, 0, 0, 0, 2, 2, 2]
    assert all("keypoints" not in one for one in written["annotations"][3:])
    assert [one["category_id"] for one in written["annotations"][:3]] == [1, 2, 1]
    assert all(one.keys().isdisjoint({"category", "points"}) for one in written["annotations"])


@pytest.mark.parametrize("rows", [0, 2])
def test_items_without_named_keypoints_come_back(rows: int) -> None:
    bare = Keypoints(
        xyv=np.zeros((rows, 0, 3), np.float32),
        keypoint_names=(),
        xyxy=np.tile(np.asarray([[1, 2, 5, 6]], np.float32), (rows, 1)),
        scores=np.ones(rows, np.float32),
        labels=np.zeros(rows, np.int64),
        names=("person",),
        size=(20, 30),
    )
    written = json.loads(json.dumps(bare.to_coco()))
    assert equal(coco.keypoints_of(written, names={1: "person"}, keypoint_names=(), size=(20, 30)), bare)
    read = from_json(json.loads(json.dumps(bare.to_json())), size=(20, 30))
    assert equal(read, bare, ignore=["origin", "names"])


def test_an_annotation_of_an_unknown_category_is_refused() -> None:
    with pytest.raises(InputError, match=r"category 4 has no name; known are \[1\]"):
        coco.boxes_of([{"category_id": 4, "bbox": [0, 0, 1, 1]}], names={1: "a"}, size=(4, 4))
    with pytest.raises(InputError, match="annotation 3 has no 'bbox'"):
        coco.boxes_of([{"id": 3, "category_id": 1}], names={1: "a"}, size=(4, 4))


@given(seeds, st.integers(0, 5))
def test_boxes_come_back_from_supervision(seed: int, rows: int) -> None:
    found = random_boxes(seed, rows)
    assert equal(from_detections(found.to_supervision()), found)


@given(seeds, st.integers(0, 4))
def test_masks_come_back_from_supervision(seed: int, rows: int) -> None:
    found = random_masks(seed, rows)
    assert equal(from_detections(found.to_supervision()), found)


def test_keypoints_come_back_from_supervision() -> None:
    points = some_keypoints()
    back = from_keypoints(points.to_supervision(), size=points.size, keypoint_names=points.keypoint_names)
    assert equal(back, points, ignore=["xyxy"])
    np.testing.assert_array_equal(back.xyxy, [[1, 2, 5, 6]])


def test_detections_made_elsewhere_need_a_size_and_names() -> None:
    sv = import_supervision()
    plain = sv.Detections(xyxy=np.asarray([[0, 0, 2, 2]], np.float32), class_id=np.asarray([1]))
    with pytest.raises(InputError, match="pass size="):
        from_detections(plain)
    with pytest.raises(InputError, match="pass names="):
        from_detections(plain, size=(4, 4))
    with pytest.raises(InputError, match="class ids are 1 to 1, but there are 1 names"):
        from_detections(plain, size=(4, 4), names=["a"])
    read = from_detections(plain, size=(4, 4), names=["a", "b"])
    assert (read.phrases, read.scores.tolist()) == (("b",), [1.0])


def test_masks_come_back_from_png_files(tmp_path: Path) -> None:
    found = random_masks(5, 3)
    paths = found.save(tmp_path / "new", stem="star")
    assert [path.name for path in paths] == ["star-0.png", "star-1.png", "star-2.png"]
    np.testing.assert_array_equal(load_masks(paths, size=found.size), found.masks)
    with pytest.raises(InputError, match=r"has the size \[9, 13\], expected \[13, 9\]"):
        load_masks(paths, size=(13, 9))
    with pytest.raises(InputError, match="cannot read the mask"):
        load_masks([tmp_path / "none.png"], size=(9, 13))


def some_keypoints() -> Keypoints:
    return Keypoints(
        xyv=np.asarray([[[1, 2, 2], [5, 6, 1], [0, 0, 0]]], np.float32),
        keypoint_names=("nose", "eye", "ear"),
        xyxy=np.asarray([[0, 0, 9, 9]], np.float32),
        scores=np.asarray([0.75], np.float32),
        labels=np.asarray([0]),
        names=("person",),
        size=(20, 30),
    )
