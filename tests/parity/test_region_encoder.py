"""The region encoder against recorded numbers of VisionLLM v2."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from superlink.router.keymap import load_strictly, our_name
from superlink.router.regions import RegionEncoder
from tests.parity.fixtures import Case, Tensors, assert_embedding, indexed

CASE = "a_region_encoder"
POOLINGS = ("grid_sample", "mean", "cross_attn")


def encoder_of(case: Case, pooling: str) -> RegionEncoder:
    config = case.config
    encoder = RegionEncoder(
        width=config["embed_dim"],
        out_width=config["out_dim"],
        patch_size=config["patch_size"],
        pooling=pooling,  # type: ignore[arg-type]
        points=case.meta["num_points"],
        hidden=config["hidden_dim"],
    )
    weights = {
        our_name(f"region_encoder.{name}").removeprefix("region_encoder."): tensor
        for name, tensor in case.weights(pooling).items()
    }
    load_strictly(encoder, weights, "the recorded region encoder")
    return encoder.eval()


class Replay:
    """The pixels that the recorded run drew; levels without points of their own used those of level 0."""

    def __init__(self, expected: Tensors, side: int) -> None:
        self.expected, self.side = expected, side

    def __call__(self, pixels: Tensor, level: int, region: int) -> Tensor:
        name = f"mid.points.level{level}.region{region}"
        points = self.expected.get(name, self.expected[f"mid.points.level0.region{region}"])
        return (points[:, 1:] * self.side).round().long()


def levels_of(case: Case, pooling: str) -> list[Tensor]:
    levels = indexed(case.inputs(), "image_features")
    return levels[:1] if pooling == "cross_attn" else levels


@pytest.mark.parametrize("pooling", POOLINGS)
def test_region_embeddings_are_as_recorded(case: Case, pooling: str) -> None:
    inputs, expected = case.inputs(), case.expected(pooling)
    encoder = encoder_of(case, pooling)
    stems: list[Tensor] = []
    projections: list[tuple[Tensor, Tensor]] = []
    encoder.stem.register_forward_hook(lambda _, given, out: stems.append(out))
    encoder.project.register_forward_hook(lambda _, given, out: projections.append((given[0], out)))
    sampler = Replay(expected, case.config["S"]) if pooling == "grid_sample" else None
    with torch.no_grad():
        found = encoder(inputs["images"], inputs["masks"], levels_of(case, pooling), sampler=sampler)
    assert_embedding(stems[0], expected["mid.mask_embedding"])
    for level, (pooled, projected) in enumerate(projections):
        assert_embedding(pooled, expected[f"mid.pooled_level_{level}"])
        assert_embedding(projected, expected[f"mid.up_dim_level_{level}"])
    assert_embedding(found, expected["region_embedding"])


def test_masks_up_to_the_limit_need_no_recorded_points(case: Case) -> None:
    inputs, expected = case.inputs(), case.expected("grid_sample")
    encoder = encoder_of(case, "grid_sample")
    with torch.no_grad():
        found = encoder(inputs["images"], inputs["masks"], levels_of(case, "grid_sample"))
    small = [region for region, area in enumerate(case.meta["mask_area"]) if area <= case.meta["num_points"]]
    assert_embedding(found[small], expected["region_embedding"][small])


def test_an_empty_mask_gives_the_bias_of_the_projection(case: Case) -> None:
    encoder = encoder_of(case, "grid_sample")
    inputs = case.inputs()
    empty = [region for region, area in enumerate(case.meta["mask_area"]) if area == 0]
    with torch.no_grad():
        found = encoder(inputs["images"], inputs["masks"], levels_of(case, "grid_sample"))
    assert empty
    assert_embedding(found[empty], encoder.project.bias.expand(len(empty), -1))
