"""Bridges from visual tokens to the language model."""

from __future__ import annotations

import pytest
import torch

from superlink.router.bridge import build_bridge, shuffle_pixels
from superlink.router.errors import ModelError


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("linear", {"weight": (6, 4), "bias": (6,)}),
        ("mlp1x_gelu", {"0.weight": (6, 4), "0.bias": (6,)}),
        ("mlp2x_gelu", {"0.weight": (6, 4), "0.bias": (6,), "2.weight": (6, 6), "2.bias": (6,)}),
        (
            "internvl_mlp",
            {
                "0.weight": (4,),
                "0.bias": (4,),
                "1.weight": (6, 4),
                "1.bias": (6,),
                "3.weight": (6, 6),
                "3.bias": (6,),
            },
        ),
    ],
)
def test_each_kind_has_the_published_layers(kind: str, shapes: dict[str, tuple[int, ...]]) -> None:
    bridge = build_bridge(kind, 4, 6)
    assert {name: tuple(tensor.shape) for name, tensor in bridge.state_dict().items()} == shapes
    assert bridge(torch.zeros(2, 3, 4)).shape == (2, 3, 6)


def test_a_deep_bridge_has_as_many_linear_maps_as_its_name_says() -> None:
    assert sum(name.endswith("weight") for name in build_bridge("mlp12x_gelu", 4, 6).state_dict()) == 12


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="bridge 'resampler' is unknown"):
        build_bridge("resampler", 4, 6)


def test_pixel_shuffle_joins_the_four_tokens_of_every_block() -> None:
    side, width = 6, 5
    tokens = torch.randn(2, side * side, width)
    merged = shuffle_pixels(tokens)
    assert merged.shape == (2, 9, 20)
    for row in range(3):
        for column in range(3):
            corner = 2 * row * side + 2 * column
            block = [tokens[:, corner + offset] for offset in (0, 1, side, side + 1)]
            torch.testing.assert_close(merged[:, 3 * row + column], torch.cat(block, dim=-1), rtol=0, atol=0)
