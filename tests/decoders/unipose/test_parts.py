"""Attention by instance, masks and keypoint terms against straightforward ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from superlink.decoders.grounding_dino.denoising import Denoising
from superlink.decoders.grounding_dino.transformer import additive
from superlink.decoders.unipose.config import PoseCosts
from superlink.decoders.unipose.instances import InstanceAttention, Instances, legacy_blocked
from superlink.decoders.unipose.losses import Labels, keypoint_cost, oks, sigma_of
from tests.decoders.unipose.poses import small


def written_out(used: Tensor, groups: int, noised: Tensor | None) -> Tensor:
    """Query by query, who must not look at whom; (B, total, total)."""
    size = used.shape[1]
    before = 0 if noised is None else noised.shape[-2]
    total = before + groups * size
    blocked = torch.ones(len(used), total, total, dtype=torch.bool)
    for row in range(len(used)):
        for looking in range(total):
            for seen in range(total):
                if looking < before:
                    assert noised is not None
                    blocked[row, looking, seen] = noised[row, 0, looking, seen]
                elif seen >= before:
                    (one, mine), (other, its) = divmod(looking - before, size), divmod(seen - before, size)
                    blocked[row, looking, seen] = one != other or bool(used[row, mine] != used[row, its])
    return blocked


@pytest.mark.parametrize("hide_padding", [True, False])
@pytest.mark.parametrize("noised", [0, 4])
def test_attention_by_instance_equals_attention_with_the_whole_mask(noised: int, hide_padding: bool) -> None:
    torch.manual_seed(0)
    config = small().detector.layer_config()
    attention: Any = InstanceAttention(config, 4)
    used = torch.tensor([[True, True, False, False], [True, True, True, False]])
    real = torch.tensor([[True, True, True, True], [True, False, True, False]])
    denoising = None
    if noised:
        content = torch.zeros(2, noised, config.d_model)
        denoising = Denoising(content=content, boxes=torch.zeros(2, noised, 4), real=real, groups=1, slots=2)
    masks = Instances.of(used, 3, denoising, hide_padding=hide_padding)
    queries = torch.randn(2, noised + 12, config.d_model)
    values = torch.randn_like(queries)
    whole = additive(written_out(used, 3, masks.noised))[:, None]
    found = attention(queries, queries, values, masks)[0]
    torch.testing.assert_close(found, attention(queries, queries, values, whole)[0], atol=1e-6, rtol=1e-5)
    if noised and hide_padding:
        assert masks.noised is not None
        assert masks.noised[0, 0, :, noised:].equal(~used[0].repeat(3).expand(noised, -1))


def published_rule(row: int, column: int, groups: int, size: int, used: list[bool]) -> bool:
    """Whether a query is hidden at the published inference, as its description says it."""
    if row // size == column // size:
        return used[row % size] != used[column % size]
    covered, window = groups * (size - 1), size - 1
    if row >= covered:
        return False
    if row >= covered - window and column >= covered:
        return False
    return row // window != column // window


@given(groups=st.integers(1, 5), size=st.integers(2, 7), data=st.data())
def test_the_legacy_mask_follows_its_description(groups: int, size: int, data: st.DataObject) -> None:
    used = [True, *data.draw(st.lists(st.booleans(), min_size=size - 1, max_size=size - 1))]
    found = legacy_blocked(torch.tensor([used]), groups)[0, 0]
    total = groups * size
    expected = [
        [published_rule(row, column, groups, size, used) for column in range(total)] for row in range(total)
    ]
    assert found.tolist() == expected


def labels_of(visible: list[list[float]], area: list[float]) -> Labels:
    shape = (len(visible), len(visible[0]))
    rng = np.random.default_rng(1)
    return Labels(
        points=torch.from_numpy(rng.uniform(0.2, 0.8, (*shape, 2))).float(),
        visible=torch.tensor(visible),
        areas=torch.tensor(area),
        sigmas=torch.full(shape, 0.05),
    )


def test_oks_is_one_on_the_spot_and_falls_with_distance_over_size() -> None:
    labels = labels_of([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [0.1, 0.4])
    torch.testing.assert_close(oks(labels.points, labels), torch.ones(2), atol=1e-5, rtol=0)
    away = labels.points + torch.tensor([0.03, 0.04])
    # Squared distance 0.0025, twice the variance 2 * (2 * 0.05) ** 2 = 0.02.
    expected = torch.tensor([-0.0025 / (0.02 * 0.1), -0.0025 / (0.02 * 0.4)]).exp()
    torch.testing.assert_close(oks(away, labels), expected, atol=1e-5, rtol=0)


def test_keypoint_costs_are_those_of_each_pair_alone() -> None:
    labels = labels_of([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]], [0.1, 0.2, 0.3])
    found = torch.rand(2, 1, 4, 2, 2)
    cost = keypoint_cost(found, labels, PoseCosts(keypoints=3.0, oks=2.0))
    assert cost.shape == (2, 1, 4, 3)
    for layer in range(2):
        for instance in range(4):
            for index in range(3):
                one = labels.take(torch.tensor([index]))
                points = found[layer, 0, instance]
                apart = sum(
                    float((points[k] - one.points[0, k]).abs().sum() * one.visible[0, k]) for k in range(2)
                )
                alike = max(float(oks(points[None], one)), 1e-6)
                expected = 3.0 * apart + 2.0 * (1 - alike)
                assert abs(float(cost[layer, 0, instance, index]) - expected) < 1e-5


def test_constants_of_keypoints_go_by_name() -> None:
    assert sigma_of("left_hip") == sigma_of("Left hip") == 0.107
    assert sigma_of("tip of the tail") == 0.025
