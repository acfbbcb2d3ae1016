from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from superlink.decoders.artifacts import Keypoints
from superlink.decoders.unipose import UniPoseConfig
from superlink.router.errors import DataError
from superlink.workflows.data.coco_keypoints import KeypointSamples, _keypoint_list
from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.train.plan import plan_calls, routing_tokens
from tests.workflows.data.test_coco import change

SIZE = (20, 30)  # height, width
PARTS = ("nose", "left_eye", "tail")
PLACES = {"nose": (5.0, 4.0, 2.0), "left eye": (6.0, 3.5, 1.0), "tail": (0.0, 0.0, 0.0)}


def poses() -> dict[str, Any]:
    """A cat whose tail is not labelled, a crowd, a dog, and a tree without keypoints."""
    flat = [5, 4, 2, 6, 3.5, 1, 9, 9, 0]
    cat = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [2, 3, 10, 6], "keypoints": flat}
    return {
        "images": [{"id": 5, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [
            cat,
            {**cat, "id": 2, "category_id": 2, "bbox": [20, 10, 10, 10], "keypoints": [*flat]},
            {**cat, "id": 3, "iscrowd": 1, "keypoints": [1]},
            {"id": 4, "image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 20]},
        ],
        "categories": [
            {"id": 1, "name": "cat", "keypoints": list(PARTS)},
            {"id": 2, "name": "dog", "keypoints": list(PARTS)},
            {"id": 3, "name": "tree"},
        ],
    }


def write(folder: Path, data: dict[str, Any]) -> Path:
    Image.new("RGB", SIZE[::-1], (9, 99, 199)).save(folder / "a.png")
    path = folder / "poses.json"
    path.write_text(json.dumps(data))
    return path


def test_keypoints_follow_their_names_and_their_objects(tmp_path: Path) -> None:
    path = write(tmp_path, poses())
    lists = set()
    for seed in range(100):
        sample = KeypointSamples(path, tmp_path, seed=seed)[0]
        (target,) = sample.targets
        found = target.artifact
        assert isinstance(found, Keypoints)
        source = f"{tmp_path.name}/poses.json, image 5"
        assert (target.token, sample.task, sample.source) == ("[POSE]", "keypoints", source)
        assert set(found.names) == {"cat", "dog"}
        assert found.phrases == ("cat", "dog")
        np.testing.assert_array_equal(found.xyxy, [[2, 3, 12, 9], [20, 10, 30, 20]])
        for points in found.xyv:
            np.testing.assert_array_equal(points, [PLACES[name] for name in found.keypoint_names])
        routing = [("[DET]", name) for name in found.names]
        assert list(expected_routing(sample)) == routing + [("[POSE]", name) for name in found.keypoint_names]
        asked = sample.conversation[0].text.lower()
        assert all(name in asked for name in found.keypoint_names)
        lists.add(found.keypoint_names)
    assert {len(names) for names in lists} == {1, 2, 3}
    assert len(lists) > 8


def test_a_sample_plans_one_call_of_unipose(tmp_path: Path) -> None:
    config = UniPoseConfig()
    sample = KeypointSamples(write(tmp_path, poses()), tmp_path)[0]
    (planned,) = plan_calls(sample, {"unipose": config}, routing_tokens([config]))
    target = planned.target
    assert isinstance(target, Keypoints)
    assert (planned.call.names, planned.call.parts) == (target.names, target.keypoint_names)


@given(st.integers(1, 100), st.integers(1, 70), st.integers(0, 2**32))
def test_lists_of_keypoints_are_never_empty_nor_too_long(known: int, most: int, seed: int) -> None:
    chosen = _keypoint_list(Random(seed), known, most)
    assert 1 <= len(chosen) == len(set(chosen)) <= min(known, most)
    assert set(chosen) <= set(range(known))


DAMAGE = {
    "too few numbers": (
        change("annotations", 0, "keypoints", value=[1, 2, 2]),
        "annotation 1: 'keypoints' has 3 numbers, expected 3 x 3",
    ),
    "no list": (change("annotations", 0, "keypoints", value=None), "annotation 1: 'keypoints' has None"),
    "words": (change("annotations", 1, "keypoints", 0, value="a"), "annotation 2: .*no number"),
    "an unknown visibility": (
        change("annotations", 0, "keypoints", 2, value=3),
        "annotation 1: a visibility is 3, expected 0, 1 or 2",
    ),
    "a point outside": (
        change("annotations", 1, "keypoints", 0, value=40),
        r"annotation 2: 'nose' at \[40.0, 4.0\] lies outside of its picture of width 30 and height 20",
    ),
    "two equal names": (
        change("categories", 0, "keypoints", value=["left_eye", "Left eye", "tail"]),
        "category 1: two keypoints have one name",
    ),
    "names that are numbers": (change("categories", 0, "keypoints", value=[1]), "category 1: 'keypoints' is"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_record_is_named_with_file_and_record(what: str, tmp_path: Path) -> None:
    apply, said = DAMAGE[what]
    data = poses()
    apply(data)
    with pytest.raises(DataError, match=rf"poses\.json.*{said}") as caught:
        KeypointSamples(write(tmp_path, data), tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_records_can_be_skipped_and_are_reported(tmp_path: Path) -> None:
    data = poses()
    data["annotations"][0]["keypoints"] = [1]
    samples = KeypointSamples(write(tmp_path, data), tmp_path, skip_bad=True)
    assert samples[0].targets[0].artifact.phrases == ("dog",)  # type: ignore[union-attr]  # keypoints
    (message,) = samples.skipped
    assert message.startswith(f"{tmp_path.name}/poses.json, annotation 1: ")


def test_a_file_without_keypoints_says_so(tmp_path: Path) -> None:
    data = poses()
    for category in data["categories"]:
        category.pop("keypoints", None)
    with pytest.raises(DataError, match="no category has a list 'keypoints'"):
        KeypointSamples(write(tmp_path, data), tmp_path)
