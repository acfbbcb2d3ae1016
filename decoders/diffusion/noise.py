"""Random draws of training, in the order of the published code: latents, noise, time steps, drops.

Every call has its own generator, so that its draws depend on its seed alone and not on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """B rows, one for each call, on the CPU."""

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) from the standard normal distribution."""

    def below(self, limit: int) -> Tensor:
        """(B,) integers in [0, limit)."""

    def uniform(self) -> Tensor:
        """(B,) in [0, 1)."""


class SeededNoise:
    """One generator for each call."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # Drawn before the noise, whose amount follows from the side that is trained at: so a call
        # is left out at every side or at none.
        self._uniform = self._rows(lambda generator: torch.rand((), generator=generator))

    def normal(self, *shape: int) -> Tensor:
        return self._rows(lambda generator: torch.randn(shape, generator=generator))

    def below(self, limit: int) -> Tensor:
        return self._rows(lambda generator: torch.randint(limit, (), generator=generator))

    def uniform(self) -> Tensor:
        return self._uniform

    def _rows(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(generator) for generator in self._generators])
