"""Boxes, instance masks and semantic maps from recorded predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from superlink.decoders.grounding_dino.results import instance_masks, picture_boxes, semantic_map, top_pairs
from superlink.decoders.letterbox import Letterbox
from superlink.decoders.unipose.decoder import picture_keypoints
from tests.parity.fixtures import Case, assert_close, assert_embedding

CASE = "i_postprocess"


def rows(case: Case) -> list[int]:
    return list(range(len(case.meta["target_sizes"])))


def size_of(case: Case, row: int) -> tuple[int, int]:
    height, width = case.meta["target_sizes"][row]
    return int(height), int(width)


def letterbox_of(case: Case, row: int) -> Letterbox:
    height, width = case.meta["instseg"]["image_sizes"][row]
    return Letterbox(size=size_of(case, row), inner=(height, width))


def test_the_best_pairs_of_query_and_class_become_boxes(case: Case) -> None:
    given, expected, options = case.inputs(), case.expected(), case.meta["det"]
    for row in rows(case):
        logits = given["det.logits"][row][:, : options["num_classes"]]
        scores, labels, queries = top_pairs(logits, options["topk"])
        boxes = picture_boxes(given["det.pred_boxes"][row][queries], size_of(case, row))
        assert_embedding(scores, expected[f"det.{row}.scores"])
        assert torch.equal(labels, expected[f"det.{row}.labels"])
        # Pixels: five digits of a coordinate.
        assert_close(boxes, expected[f"det.{row}.boxes"], atol=1e-5 * max(size_of(case, row)))


def test_their_masks_are_cut_resized_and_thresholded(case: Case) -> None:
    given, expected, options = case.inputs(), case.expected(), case.meta["instseg"]
    for row in rows(case):
        logits = given["det.logits"][row][:, : options["num_classes"]]
        scores, labels, queries = top_pairs(logits, options["topk"])
        found = instance_masks(
            given["det.pred_masks"][row][queries], letterbox_of(case, row), stride=options["mask_stride"]
        )
        recorded = expected[f"instseg.{row}.masks"].bool()
        boxes = picture_boxes(given["det.pred_boxes"][row][queries], size_of(case, row))
        assert torch.equal(labels, expected[f"instseg.{row}.labels"])
        assert_embedding(scores, expected[f"instseg.{row}.scores"])
        assert_close(boxes, expected[f"instseg.{row}.boxes"], atol=1e-5 * max(size_of(case, row)))
        assert found.shape == tuple(recorded.shape)
        check_integers(torch.from_numpy(found), recorded)


@pytest.mark.parametrize(("name", "resize_last"), [("map", False), ("map_after", True)])
def test_semantic_maps_mix_all_queries(case: Case, name: str, resize_last: bool) -> None:
    given, row = case.inputs(), case.meta["semseg_image"]
    found = semantic_map(
        given["det.logits"][row][:, : case.meta["semseg_num_classes"]],
        given["det.pred_masks"][row],
        letterbox_of(case, row),
        stride=case.meta["instseg"]["mask_stride"],
        resize_last=resize_last,
    )
    check_integers(found, case.expected()[f"semseg.{name}"])


def test_the_best_pairs_become_instances_with_keypoints(case: Case) -> None:
    given, expected, options = case.inputs(), case.expected(), case.meta["pose"]
    count = options["num_body_points"]
    for row in rows(case):
        logits = given["pose.pred_logits"][row][:, : options["num_classes"]]
        scores, labels, queries = top_pairs(logits, options["topk"])
        boxes = picture_boxes(given["pose.pred_boxes"][row][queries], size_of(case, row))
        places = given["pose.pred_keypoints"][row][queries, : 2 * count].unflatten(-1, (count, 2))
        keypoints = torch.from_numpy(picture_keypoints(places, size_of(case, row)))
        names = torch.tensor([options["id_mapping"][str(int(label))] for label in labels])
        assert_embedding(scores, expected[f"pose.{row}.scores"])
        assert torch.equal(names, expected[f"pose.{row}.labels"])
        atol = 1e-5 * max(size_of(case, row))
        assert_close(boxes, expected[f"pose.{row}.boxes"], atol=atol)
        # The record has 1 for every visibility.
        recorded = expected[f"pose.{row}.keypoints"].unflatten(-1, (count, 3))[..., :2]
        assert_close(keypoints[..., :2], recorded, atol=atol)


def check_integers(found: Tensor, recorded: Tensor) -> None:
    assert torch.equal(found.long(), recorded.long()), f"{int((found != recorded).sum())} pixels differ"
