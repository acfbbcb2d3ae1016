"""Where visual tokens are, and how large: what a tower of convolutions and a bridge leave open.

Words come to the language model small, and its layers add to what they get; a bridge makes visual tokens
of any size, next to which nothing added would count. A convolution sees the same everywhere, so its features
do not say where they are. Here visual tokens get the size of words, and a vector for their place in the tile.

Axes: P tiles, n visual tokens of a tile in reading order, D router width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SHARE = 0.5  # of a word's size, for the vectors of places


class Places(nn.Module):
    """Layer normalisation, and a vector that is learned for every place.

    Args:
        count: n, a square number.
        width: D.
        scale: standard deviation of words.
    """

    def __init__(self, count: int, width: int, scale: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.vectors = nn.Embedding(count, width)
        self.begin(scale)

    @torch.no_grad()
    def begin(self, scale: float) -> None:
        """Fresh weights for words of another size."""
        nn.init.constant_(self.norm.weight, scale)
        nn.init.zeros_(self.norm.bias)
        waves = _waves(math.isqrt(len(self.vectors.weight)), self.vectors.embedding_dim)
        self.vectors.weight.copy_(_SHARE * scale * waves / waves.std())

    def forward(self, tokens: Tensor) -> Tensor:
        """(P, n, D) to the same."""
        placed: Tensor = self.norm(tokens) + self.vectors.weight
        return placed


def _waves(side: int, width: int) -> Tensor:
    """(side * side, width) sines and cosines of rows in one half and columns in the other.

    Wavelengths grow from two places to four sides: Vaswani et al. 2017, section 3.5, for a small grid.
    """
    quarter = math.ceil(width / 4)
    lengths = 2.0 * (2.0 * side) ** (torch.arange(quarter) / max(quarter - 1, 1))
    angles = 2 * math.pi * torch.arange(side)[:, None] / lengths
    one = torch.cat([angles.sin(), angles.cos()], 1)  # (side, 2 * quarter)
    rows = one[:, None].expand(side, side, -1)
    both = torch.cat([rows, rows.transpose(0, 1)], -1)
    return both.flatten(0, 1)[:, :width]
