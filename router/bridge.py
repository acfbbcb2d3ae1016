"""The bridge from visual tokens to the width of the language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from superlink.router.errors import ModelError


def build_bridge(kind: str, width: int, out_width: int) -> nn.Module:
    """A fresh bridge.

    Args:
        kind: "linear"; "mlp<N>x_gelu" = N linear maps with GELU between (LLaVA-1.5);
            "internvl_mlp" = layer norm and two linear maps (InternVL).
        width: of a visual token, after pixel shuffle where that is on.
        out_width: of the language model.
    """
    if kind == "linear":
        return nn.Linear(width, out_width)
    if kind == "internvl_mlp":
        return nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, out_width), nn.GELU(), nn.Linear(out_width, out_width)
        )
    if kind.startswith("mlp") and kind.endswith("x_gelu"):
        layers: list[nn.Module] = [nn.Linear(width, out_width)]
        for _ in range(int(kind[3:-6]) - 1):
            layers += [nn.GELU(), nn.Linear(out_width, out_width)]
        return nn.Sequential(*layers)
    raise ModelError(f"bridge {kind!r} is unknown; use 'linear', 'mlp<N>x_gelu' or 'internvl_mlp'")


def shuffle_pixels(tokens: Tensor) -> Tensor:
    """Merge every 2 x 2 block of a square grid of visual tokens into one token.

    Args:
        tokens: (P, n, C), n = side * side in row-major order, side even.

    Returns:
        (P, n / 4, 4 C); the block's tokens follow one another row by row.

    Source: Chen et al. 2024 (InternVL 1.5), section 3.1.
    """
    count, number, width = tokens.shape
    half = round(number**0.5) // 2
    blocks = torch.reshape(tokens, (count, half, 2, half, 2, width))
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(count, half * half, 4 * width)
