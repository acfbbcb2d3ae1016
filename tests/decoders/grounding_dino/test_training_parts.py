"""Matching, losses, denoising and results against brute force and independent formulas."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from superlink.decoders.grounding_dino.boxes import giou, inverse_sigmoid, to_cxcywh, to_xyxy
from superlink.decoders.grounding_dino.config import MatchCosts
from superlink.decoders.grounding_dino.deformable import deformable_sampling
from superlink.decoders.grounding_dino.denoising import build_denoising
from superlink.decoders.grounding_dino.losses import cell_labels, focal, mask_logits
from superlink.decoders.grounding_dino.matching import class_cost, match
from superlink.decoders.grounding_dino.noise import SeededNoise
from superlink.decoders.grounding_dino.points import sample, sample_rows
from superlink.decoders.grounding_dino.results import (
    cut_at_boxes,
    iou_matrix,
    keep_top,
    merge_doubles,
    overlapping,
    tight_boxes,
    top_pairs,
)
from tests.decoders.grounding_dino.detectors import small


def random_boxes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    centre = torch.rand(*shape, 2, generator=generator) * 0.6 + 0.2
    return torch.cat([centre, torch.rand(*shape, 2, generator=generator) * 0.3 + 0.05], -1)


def test_matching_finds_the_cheapest_of_all_permutations() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, boxes = torch.randn(1, 1, 5, 3, generator=generator), random_boxes(generator, 1, 1, 5)
    labels, targets = torch.tensor([2, 0, 0]), random_boxes(generator, 3)
    costs = MatchCosts()
    ((query, target),) = match(logits, boxes, [labels], [targets], costs=costs, alpha=0.25)[0]
    own = boxes[0, 0]
    total = (
        costs.ce * class_cost(logits[0, 0], alpha=0.25)[:, labels]
        + costs.bbox * (own[:, None] - targets).abs().sum(-1)
        - costs.giou * giou(to_xyxy(own)[:, None], to_xyxy(targets))
    )
    cheapest = min(
        permutations(range(5), 3), key=lambda order: sum(float(total[q, t]) for t, q in enumerate(order))
    )
    assert {(int(q), int(t)) for q, t in zip(query, target, strict=True)} == {
        (q, t) for t, q in enumerate(cheapest)
    }


def test_pictures_of_a_batch_are_matched_on_their_own() -> None:
    generator = torch.Generator().manual_seed(4)
    logits, boxes = torch.randn(2, 3, 6, 4, generator=generator), random_boxes(generator, 2, 3, 6)
    labels = [torch.tensor([1]), torch.zeros(0, dtype=torch.long), torch.tensor([3, 0])]
    targets = [random_boxes(generator, len(one)) for one in labels]
    together = match(logits, boxes, labels, targets, costs=MatchCosts(), alpha=0.25)
    for stage in range(2):
        for row in range(3):
            ((query, target),) = match(
                logits[stage : stage + 1, row : row + 1],
                boxes[stage : stage + 1, row : row + 1],
                labels[row : row + 1],
                targets[row : row + 1],
                costs=MatchCosts(),
                alpha=0.25,
            )[0]
            assert torch.equal(together[stage][row][0], query)
            assert torch.equal(together[stage][row][1], target)


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


def test_matching_needs_no_more_memory_for_more_pictures() -> None:
    generator = torch.Generator().manual_seed(5)
    most = []
    for pictures in (1, 6):
        logits = torch.randn(2, pictures, 20, 3, generator=generator)
        boxes = random_boxes(generator, 2, pictures, 20)
        labels = [torch.zeros(9, dtype=torch.long)] * pictures
        targets = [random_boxes(generator, 9) for _ in labels]
        with Largest() as largest:
            match(logits, boxes, labels, targets, costs=MatchCosts(), alpha=0.25)
        most.append(largest.elements)
    assert most[0] == most[1]


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(0.1, 0.9))
def test_focal_loss_is_its_published_formula(values: list[float], alpha: float) -> None:
    logits = torch.tensor(values, dtype=torch.float64)
    positive = (torch.arange(len(values)) % 2).double()
    p = np.clip(1 / (1 + np.exp(-logits.numpy())), 1e-300, 1)
    q = np.clip(1 / (1 + np.exp(logits.numpy())), 1e-300, 1)
    expected = np.where(positive.numpy() == 1, -alpha * q**2 * np.log(p), -(1 - alpha) * p**2 * np.log(q))
    found = focal(logits, positive, torch.ones(1, dtype=torch.bool), alpha=alpha)
    np.testing.assert_allclose(float(found), expected.sum(), rtol=1e-6, atol=1e-9)


def test_padded_classes_take_no_part_in_the_focal_loss() -> None:
    logits = torch.tensor([[0.3, -torch.inf]], requires_grad=True)
    loss = focal(logits, torch.zeros(1, 2), torch.tensor([[True, False]]), alpha=0.25)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0


def test_generalised_iou_of_known_boxes() -> None:
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    half = torch.tensor([0.5, 0.0, 1.5, 1.0])
    apart = torch.tensor([2.0, 0.0, 3.0, 1.0])
    torch.testing.assert_close(giou(unit, unit), torch.tensor(1.0))
    torch.testing.assert_close(giou(unit, half), torch.tensor(0.5 / 1.5))
    torch.testing.assert_close(giou(unit, apart), torch.tensor(-1 / 3))


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_box_forms_and_sigmoid_are_inverted(centre: float, extent: float) -> None:
    box = torch.tensor([centre, centre, extent, extent])
    torch.testing.assert_close(to_cxcywh(to_xyxy(box)), box)
    torch.testing.assert_close(inverse_sigmoid(box).sigmoid(), box)
    assert torch.isfinite(inverse_sigmoid(torch.tensor([0.0, 1.0]))).all()


def test_deformable_sampling_is_a_weighted_sum_of_grid_samples_head_by_head() -> None:
    torch.manual_seed(0)
    shapes, heads, channels, queries, points = [(4, 6), (2, 3)], 2, 3, 5, 4
    cells = sum(height * width for height, width in shapes)
    value = torch.randn(2, cells, heads, channels)
    places = torch.rand(2, queries, heads, len(shapes), points, 2) * 1.2 - 0.1
    weights = torch.rand(2, queries, heads, len(shapes), points)
    expected = torch.zeros(2, queries, heads, channels)
    for b, q, h, level, p in np.ndindex(2, queries, heads, len(shapes), points):
        height, width = shapes[level]
        start = sum(a * c for a, c in shapes[:level])
        cell_map = value[b, start : start + height * width, h].T.reshape(channels, height, width)
        x, y = places[b, q, h, level, p].tolist()
        left, top = int(np.floor(x * width - 0.5)), int(np.floor(y * height - 0.5))
        for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            if 0 <= column < width and 0 <= row < height:
                share = (1 - abs(x * width - 0.5 - column)) * (1 - abs(y * height - 0.5 - row))
                expected[b, q, h] += weights[b, q, h, level, p] * share * cell_map[:, row, column]
    found = deformable_sampling(value, shapes, places, weights)
    torch.testing.assert_close(found, expected.flatten(2), rtol=1e-4, atol=1e-5)


def test_both_point_samplers_agree_inside_and_outside() -> None:
    torch.manual_seed(0)
    maps, points = torch.randn(3, 5, 7), torch.rand(4, 20, 2) * 1.4 - 0.2
    rows = torch.tensor([2, 0, 2, 1])
    torch.testing.assert_close(sample_rows(maps, rows, points), sample(maps[rows], points))


def test_cells_are_labelled_with_the_share_that_is_covered() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4, :6] = True
    torch.testing.assert_close(cell_labels(mask, torch.Size([2, 2])), torch.tensor([[1.0, 0.5, 0.0, 0.0]]))


def test_mask_logits_use_the_features_of_their_own_picture() -> None:
    torch.manual_seed(0)
    features, embeddings = torch.randn(3, 4, 2, 5), torch.randn(6, 4)
    picture = torch.tensor([2, 0, 0, 2, 1, 0])
    expected = torch.stack([torch.einsum("c,chw->hw", embeddings[m], features[picture[m]]) for m in range(6)])
    torch.testing.assert_close(mask_logits(embeddings, picture, features), expected)


def test_denoising_keeps_positives_near_and_negatives_off_their_objects() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = [torch.tensor([0, 1, 1]), torch.tensor([0])]
    boxes = [random_boxes(generator, len(one)) for one in labels]
    classes = torch.randn(2, 2, 8, generator=generator)
    config = small(dn_groups=3, dn_label_noise=0.0)
    found = build_denoising(labels, boxes, classes, torch.tensor([2, 2]), config, SeededNoise([1, 2]))
    assert found is not None
    assert (found.groups, found.slots) == (3, 3)
    assert found.boxes.shape == (2, 18, 4)
    for row, (label, box) in enumerate(zip(labels, boxes, strict=True)):
        positives = found.positives(len(label))
        assert torch.equal(found.content[row, positives], classes[row, label.repeat(3)])
        corners, own = to_xyxy(found.boxes[row, positives].sigmoid()), to_xyxy(box).repeat(3, 1)
        reach = (box[:, 2:] / 2).repeat(3, 2) + 1e-4
        assert ((corners - own).abs() <= reach).all()
        negatives = to_xyxy(found.boxes[row, positives + found.slots].sigmoid())
        moved = (negatives - own).abs()
        # A corner that reached the edge, or passed its opposite, is cut there.
        whole = (negatives[:, 2:] - negatives[:, :2] > 1e-3).all(1, keepdim=True)
        inside = (negatives > 1e-3) & (negatives < 1 - 1e-3) & whole
        assert (moved[inside] >= reach[inside] - 2e-4).all()
        assert int(found.real[row].sum()) == 6 * len(label)


def test_denoising_groups_and_matching_queries_do_not_see_each_other() -> None:
    boxes = [torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.zeros(0, 4)]
    labels = [torch.tensor([0]), torch.zeros(0, dtype=torch.long)]
    found = build_denoising(
        labels, boxes, torch.randn(2, 1, 8), torch.tensor([1, 1]), small(dn_groups=2), SeededNoise([1, 2])
    )
    assert found is not None
    blocked = found.blocked(3, hide_padding=True)[:, 0]
    seen = ~blocked[0]
    assert not seen[4:, :4].any()
    assert seen[:4, 4:].all()
    assert not seen[:2, 2:4].any()
    # The second picture has no object: its denoising queries are padding that nobody else sees.
    assert torch.equal(~blocked[1, :, :4], torch.eye(7, dtype=torch.bool)[:, :4])


def test_nothing_to_denoise_gives_no_queries() -> None:
    nothing = [torch.zeros(0, dtype=torch.long)]
    found = build_denoising(
        nothing, [torch.zeros(0, 4)], torch.zeros(1, 1, 8), torch.tensor([1]), small(), SeededNoise([1])
    )
    assert found is None


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.95))
def test_merging_leaves_no_doubles_and_drops_nothing_else(seed: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (12, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 15, (12, 2))], 1).astype(np.float32)
    labels = rng.integers(0, 2, 12)
    kept = merge_doubles(boxes, labels, most)
    overlap = iou_matrix(boxes, boxes)
    same = labels[:, None] == labels[None]
    for index in range(12):
        rivals = [k for k in kept if k < index and same[index, k] and overlap[index, k] > most]
        assert (index in kept) == (not rivals)


def test_results_keep_the_best_of_each_label_and_the_best_pairs() -> None:
    assert keep_top(np.array([1, 0, 1, 1, 0]), 2).tolist() == [0, 1, 2, 4]
    scores, labels, queries = top_pairs(torch.tensor([[0.0, 2.0], [1.0, -1.0]]), 3)
    assert labels.tolist() == [1, 0, 0]
    assert queries.tolist() == [0, 1, 0]
    torch.testing.assert_close(scores, torch.tensor([2.0, 1.0, 0.0]).sigmoid())


def test_masks_are_cut_at_their_grown_boxes() -> None:
    masks = np.ones((2, 20, 30), dtype=np.bool_)
    boxes = np.array([[10, 5, 20, 10], [25, 0, 30, 20]], dtype=np.float32)
    cut = cut_at_boxes(masks, boxes, 0.2)
    np.testing.assert_array_equal(tight_boxes(cut), [[8, 4, 22, 11], [24, 0, 30, 20]])
    assert cut[0].sum() == 14 * 7


def test_tight_boxes_touch_their_masks_and_overlap_needs_half() -> None:
    masks = np.zeros((2, 6, 8), dtype=np.bool_)
    masks[0, 1:3, 2:7] = True
    np.testing.assert_array_equal(tight_boxes(masks), [[2, 1, 7, 3], [0, 0, 0, 0]])
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 4]], dtype=np.float32)
    assert overlapping(boxes, np.array([[0, 0, 10, 8]], dtype=np.float32)).tolist() == [True, True]
    assert overlapping(boxes, np.array([[0, 0, 10, 9]], dtype=np.float32)).tolist() == [True, False]
