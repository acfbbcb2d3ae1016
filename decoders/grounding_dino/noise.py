"""Random draws of training: denoising queries and mask points.

Every draw says which picture each of its rows belongs to, so that a picture's noise depends on
its own seed alone and not on the batch or the worker that it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from superlink.decoders.contract import Call


class Noise(Protocol):
    """N rows; `owners` (N,) is the picture of each."""

    def uniform(self, owners: Tensor, *shape: int) -> Tensor:
        """(N, *shape) in [0, 1)."""

    def coins(self, owners: Tensor, *shape: int) -> Tensor:
        """(N, *shape) of zeros and ones, as floats."""

    def below(self, owners: Tensor, limits: Tensor) -> Tensor:
        """(N,) integers, row i in [0, limits[i])."""


class SeededNoise:
    """One generator for each picture."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def of(cls, calls: Sequence[Call]) -> SeededNoise:
        """Noise that follows from the seed of each call."""
        # Seed 0 means "not given": PyTorch's own generator decides, so that a resumed run repeats itself.
        return cls([call.seed or int(torch.randint(2**62, ())) for call in calls])

    def uniform(self, owners: Tensor, *shape: int) -> Tensor:
        on_cpu = owners.cpu()
        drawn = torch.empty(len(owners), *shape)
        for owner, generator in enumerate(self._generators):
            rows = on_cpu == owner
            drawn[rows] = torch.rand(int(rows.sum()), *shape, generator=generator)
        return drawn.to(owners.device)

    def coins(self, owners: Tensor, *shape: int) -> Tensor:
        return (self.uniform(owners, *shape) < 0.5).float()

    def below(self, owners: Tensor, limits: Tensor) -> Tensor:
        return (self.uniform(owners) * limits).long()
