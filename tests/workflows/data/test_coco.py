from __future__ import annotations

import copy
import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from superlink.decoders.artifacts import Boxes, Masks
from superlink.router.errors import DataError
from superlink.workflows.data.coco import CocoSamples, class_list
from superlink.workflows.data.coco_file import read_coco
from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.data.refcoco import RefCocoSamples, phrase_of

SIZE = (20, 30)
SQUARE = {"bbox": [2, 3, 10, 6], "segmentation": [[2, 3, 12, 3, 12, 9, 2, 9]]}


def coco() -> dict[str, Any]:
    """Two pictures: a person and two dogs in the first, nothing but a crowd in the second."""
    runs = {"size": list(SIZE), "counts": [0, 20, 580]}  # the leftmost column
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]},
            {"id": 6, "file_name": "b.png", "height": SIZE[0], "width": SIZE[1]},
        ],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 18, "name": "dog"},
            {"id": 20, "name": "fire_hydrant"},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 18, "iscrowd": 0, **SQUARE},
            {"id": 2, "image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 20], "segmentation": runs},
            {"id": 3, "image_id": 5, "category_id": 18, "bbox": [20, 10, 10, 10.4], "segmentation": []},
            {"id": 4, "image_id": 6, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 0, 0]},
        ],
    }


def write(folder: Path, data: dict[str, Any]) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (SIZE[1], SIZE[0]), "gray").save(folder / name)
    path = folder / "found.json"
    path.write_text(json.dumps(data))
    return path


def test_crowds_are_kept_apart_and_broken_ones_are_none(tmp_path: Path) -> None:
    data = coco()
    data["annotations"].append({"id": 5, "image_id": 5, "category_id": 1, "iscrowd": 1, **SQUARE})
    data["annotations"] += [{"id": 6, "iscrowd": 1}, {"id": 7, "iscrowd": 1, "image_id": [5]}]
    found = read_coco(write(tmp_path, data), tmp_path)
    assert [len(found.annotations[key]) for key in (5, 6)] == [3, 0]
    assert {key: [row.category for row in rows] for key, rows in found.groups.items()} == {5: [1]}


def test_a_sample_asks_for_classes_and_holds_every_box_of_those(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    for seed in range(200):
        sample = CocoSamples(path, tmp_path, seed=seed)[0]
        (target,) = sample.targets
        boxes = target.artifact
        assert isinstance(boxes, Boxes)
        source = f"{tmp_path.name}/found.json, image 5"
        assert (target.token, sample.task, sample.source) == ("[DET]", "detect", source)
        assert expected_routing(sample) == tuple(("[DET]", name) for name in boxes.names)
        assert {"person", "dog"} <= set(boxes.names) <= {"person", "dog", "fire hydrant"}
        found = {(name, *box) for name, box in zip(boxes.phrases, boxes.xyxy.tolist(), strict=True)}
        assert found == {("dog", 2, 3, 12, 9), ("person", 0, 0, 1, 20), ("dog", 20, 10, 30, 20)}
        asked = re.sub("people|everyone|everybody", "person", sample.conversation[0].text.lower())
        assert all(name[:4] in asked for name in boxes.names)
        assert sample.image is not None
        assert sample.image.shape == (*SIZE, 3)


def test_half_of_the_class_lists_are_complete_and_the_order_varies(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    lists = [CocoSamples(path, tmp_path, seed=seed)[0].targets[0].artifact.names for seed in range(120)]
    assert 60 <= sum(len(names) == 3 for names in lists) <= 114  # half, and 1 in 2 of the others
    assert len(set(lists)) > 4


def test_a_picture_without_objects_still_asks_for_something(tmp_path: Path) -> None:
    samples = CocoSamples(write(tmp_path, coco()), tmp_path, tasks=("segment",))
    masks = samples[1].targets[0].artifact
    assert isinstance(masks, Masks)
    assert masks.masks.shape == (0, *SIZE)
    assert masks.names


def test_masks_come_from_polygons_and_run_lengths(tmp_path: Path) -> None:
    data = coco()
    del data["annotations"][2]
    samples = CocoSamples(write(tmp_path, data), tmp_path, tasks=("segment",))
    masks = samples[0].targets[0].artifact
    assert isinstance(masks, Masks)
    expected = np.zeros((2, *SIZE), bool)
    expected[0, 3:9, 2:12] = True
    expected[1, :, 0] = True
    np.testing.assert_array_equal(masks.masks, expected)
    np.testing.assert_array_equal(masks.xyxy, [[2, 3, 12, 9], [0, 0, 1, 20]])
    assert samples[0].targets[0].token == "[SEG]"


def test_the_same_seed_gives_the_same_sample_and_another_one_other_words(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    texts = [CocoSamples(path, tmp_path, seed=seed)[0].conversation[0].text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


@given(st.sets(st.integers(0, 30), max_size=20), st.integers(1, 40), st.integers(0, 2**32))
def test_class_lists_hold_the_present_ones_first(present: set[int], most: int, seed: int) -> None:
    chosen = class_list(Random(seed), sorted(present), range(31), most)
    assert max(Counter(chosen).values()) == 1
    assert 1 <= len(chosen) <= most
    assert len(present & set(chosen)) == min(len(present), most)


def change(*path: str | int, value: Any) -> Any:
    def apply(data: dict[str, Any]) -> None:
        target: Any = data
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return apply


DAMAGE = {
    "a missing picture": (change("images", 0, "file_name", value="c.png"), "image 5: there is no picture"),
    "an image id twice": (change("images", 1, "id", value=5), "image 5: the id occurs twice"),
    "no size": (change("images", 0, "height", value=None), "image 5: 'height' is None, expected int"),
    "an empty picture": (change("images", 0, "width", value=0), r"image 5: has the size \[20, 0\]"),
    "an image that is no object": (change("images", 0, value=7), "expected an object, got int"),
    "an empty name": (change("categories", 0, "name", value=" _ "), "category 1: the name is empty"),
    "a special token": (change("categories", 0, "name", value="a[DET]"), "kept for routing tokens"),
    "two equal names": (change("categories", 0, "name", value="Dog"), "two categories have one name"),
    "a category id twice": (change("categories", 0, "id", value=18), "category 18: the id occurs twice"),
    "an unknown image": (change("annotations", 0, "image_id", value=9), "annotation 1: there is no image 9"),
    "an unknown category": (change("annotations", 0, "category_id", value=9), "1: there is no category 9"),
    "a box outside": (
        change("annotations", 0, "bbox", value=[25, 3, 10, 6]),
        "leaves its picture of width 30",
    ),
    "a box without area": (change("annotations", 0, "bbox", value=[2, 3, 0, 6]), "has no area"),
    "a box of words": (change("annotations", 0, "bbox", value=["a", 3, 1, 6]), "expected four numbers"),
    "a box that rounds to nothing inside": (
        change("annotations", 0, "bbox", value=[30.5, 3, 0.3, 6]),
        "has no area inside its picture of width 30",
    ),
    "a box just above the picture": (
        change("annotations", 0, "bbox", value=[3, -0.8, 4, 0.5]),
        "has no area inside its picture",
    ),
    "a side beyond every float": (
        change("annotations", 0, "bbox", value=[2, 3, 10**400, 6]),
        "annotation 1: bbox is .* expected four numbers",
    ),
    "a picture beyond every disk": (change("images", 0, "width", value=10**400), "image 5: has the size"),
    "an image id that is a list": (change("images", 0, "id", value=[1]), r"'id' is \[1\], expected int"),
    "an annotation of a list of images": (
        change("annotations", 0, "image_id", value=[1]),
        r"annotation 1: 'image_id' is \[1\], expected int",
    ),
    "a name longer than the disk takes": (
        change("images", 0, "file_name", value="a" * 300),
        "image 5: the picture .* cannot be looked up: ",
    ),
    "a box of NaN": (change("annotations", 0, "bbox", value=[float("nan"), 3, 1, 6]), "four numbers"),
    "no categories": (change("categories", value=[]), "has no categories"),
    "no annotations": (change("annotations", value=None), "no list 'annotations'"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_record_is_named_with_file_and_record(what: str, tmp_path: Path) -> None:
    apply, said = DAMAGE[what]
    data = coco()
    apply(data)
    with pytest.raises(DataError, match=rf"found\.json.*{said}") as caught:
        CocoSamples(write(tmp_path, data), tmp_path)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "what", [what for what in DAMAGE if any(word in what for word in ("box", "list", "beyond", "longer"))]
)
def test_any_damaged_record_can_be_left_out(what: str, tmp_path: Path) -> None:
    data = coco()
    DAMAGE[what][0](data)
    samples = CocoSamples(write(tmp_path, data), tmp_path, skip_bad=True)
    assert len(samples.skipped) >= 1
    assert samples[len(samples) - 1].source.endswith("found.json, image 6")


def test_a_box_that_hangs_over_the_edge_is_cut_off_at_both_ends(tmp_path: Path) -> None:
    data = coco()
    data["annotations"][0]["bbox"] = [-0.5, -0.5, 31, 21]
    boxes = CocoSamples(write(tmp_path, data), tmp_path)[0].targets[0].artifact
    assert isinstance(boxes, Boxes)
    assert [0, 0, 30, 20] in boxes.xyxy.tolist()


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    sources = []
    for folder in (tmp_path / "train", tmp_path / "valid"):
        folder.mkdir()
        sources.append(CocoSamples(write(folder, coco()), folder)[0].source)
    assert sources == ["train/found.json, image 5", "valid/found.json, image 5"]


def test_damaged_records_can_be_skipped_and_are_reported(tmp_path: Path) -> None:
    data = coco()
    data["annotations"][0]["bbox"] = [25, 3, 10, 6]
    data["images"].append({"id": 7, "file_name": "gone.png", "height": 1, "width": 1})
    data["annotations"].append({"id": 9, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]})
    samples = CocoSamples(write(tmp_path, data), tmp_path, skip_bad=True)
    assert len(samples) == 2
    assert len(samples[0].targets[0].artifact.phrases) == 2  # type: ignore[union-attr]  # boxes
    assert [message.split(":")[0] for message in samples.skipped] == [
        f"{tmp_path.name}/found.json, image 7",
        f"{tmp_path.name}/found.json, annotation 1",
    ]


def test_a_bad_mask_is_named_when_its_sample_is_read(tmp_path: Path) -> None:
    for segmentation, said in (
        (None, "has no segmentation"),
        ({"size": list(SIZE), "counts": [1]}, "cover 1"),
    ):
        data = coco()
        data["annotations"][0]["segmentation"] = segmentation
        samples = CocoSamples(write(tmp_path, data), tmp_path, tasks=("segment",))
        with pytest.raises(DataError, match=rf"found\.json, annotation 1: .*{said}"):
            samples[0]


def test_a_picture_of_another_size_or_damaged_is_named(tmp_path: Path) -> None:
    samples = CocoSamples(write(tmp_path, coco()), tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"image 5: .*size \[4, 4\], the record says \[20, 30\]"):
        samples[0]
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"found\.json, image 5: .*not a picture"):
        samples[0]


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        CocoSamples(tmp_path / "gone.json", tmp_path)
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(DataError, match=r"text\.json: is not JSON"):
        CocoSamples(tmp_path / "text.json", tmp_path)


def referring() -> dict[str, Any]:
    data = coco()
    data["images"] = [dict(data["images"][0], expressions=["The dog, on the left!", "left dog"])]
    data["annotations"] = data["annotations"][:1]
    return data


def test_an_expression_becomes_one_grounded_box(tmp_path: Path) -> None:
    path = write(tmp_path, referring())
    seen = set()
    for seed in range(200):
        sample = RefCocoSamples(path, tmp_path, seed=seed)[0]
        (target,) = sample.targets
        boxes = target.artifact
        assert isinstance(boxes, Boxes)
        assert target.token == "[GRD]"
        np.testing.assert_array_equal(boxes.xyxy, [[2, 3, 12, 9]])
        assert expected_routing(sample) == (("[GRD]", boxes.names[0]),)
        assert boxes.names[0] in sample.conversation[0].text.lower()
        seen.add(boxes.names[0])
    assert seen == {"dog on the left", "left dog"}


def test_an_expression_becomes_one_mask_where_masks_are_asked_for(tmp_path: Path) -> None:
    sample = RefCocoSamples(write(tmp_path, referring()), tmp_path, tasks=("segment",))[0]
    masks = sample.targets[0].artifact
    assert isinstance(masks, Masks)
    assert sample.targets[0].token == "[SEG]"
    assert masks.masks.sum() == 60


@pytest.mark.parametrize(
    ("expression", "phrase"),
    [
        ("The man, in red!", "man in red"),
        ("a", "a"),
        ("2nd  from left", "2nd from left"),
        ("woman's hat", "woman's hat"),
    ],
)
def test_expressions_lose_case_punctuation_and_article(expression: str, phrase: str) -> None:
    assert phrase_of(expression, "here") == phrase


def test_entries_that_are_not_one_object_with_words_are_refused(tmp_path: Path) -> None:
    several, wordless, silent = (copy.deepcopy(referring()) for _ in range(3))
    several["annotations"] = coco()["annotations"][:3]
    del wordless["images"][0]["expressions"]
    silent["images"][0]["expressions"] = ["?!"]
    for data, said in (
        (several, "got 3 annotations"),
        (wordless, "'expressions' is None"),
        (silent, "the name is empty"),
    ):
        with pytest.raises(DataError, match=rf"found\.json, image 5: .*{said}"):
            RefCocoSamples(write(tmp_path, data), tmp_path)
        with pytest.raises(DataError, match="no expression that can be used"):
            RefCocoSamples(write(tmp_path, data), tmp_path, skip_bad=True)
