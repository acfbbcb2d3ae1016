"""A running average of weights: what a diffusion network samples with.

Its weights wander from step to step; their exponential average makes better pictures
(Song and Ermon 2020, section 4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from superlink.router.errors import ModelError
from superlink.workflows.train.optimizer import match


class RunningAverage:
    """Averages, by name, of the parameters that match any glob.

    Early steps weigh more: after n updates the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, module: nn.Module, globs: Sequence[str], *, decay: float = 0.999) -> None:
        """Raises InputError for a glob that matches no parameter."""
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        named = dict(module.named_parameters())
        chosen = match(globs, list(named))
        self.decay = decay
        self.updates = 0
        self._averages = {name: one.detach().clone() for name, one in named.items() if name in chosen}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of the module; once after every optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = self._current(module)
        weights = [current[name].detach() for name in self._averages]
        get_ema_multi_avg_fn(decay)(list(self._averages.values()), weights, self.updates)

    @torch.no_grad()
    def restart(self, module: nn.Module, names: Collection[str] | None = None) -> None:
        """Forget what was, as if the run began with the weights that the module has now.

        Args:
            names: parameters whose averages do so, while the others go on; None = all.
        """
        if names is None:
            self.updates = 0
        current = self._current(module)
        for name, average in self._averages.items():
            if names is None or name in names:
                average.copy_(current[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Give the module the averages for good."""
        current = self._current(module)
        for name, average in self._averages.items():
            current[name].copy_(average)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module has the averages inside the block, and its own weights again after it."""
        current = self._current(module)
        own = {name: current[name].detach().clone() for name in self._averages}
        self.copy_to(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in own.items():
                    current[name].copy_(weight)

    def state_dict(self) -> dict[str, Tensor]:
        """Averages by parameter name, and the number of updates under "updates"."""
        return {**self._averages, "updates": torch.tensor(self.updates)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises ModelError where names or shapes differ."""
        names = {*self._averages, "updates"}
        if set(state) != names:
            raise ModelError(f"these averages are of other weights: {sorted(set(state) ^ names)[:4]} differ")
        for name, average in self._averages.items():
            if state[name].shape != average.shape:
                raise ModelError(
                    f"the average of {name} has shape {tuple(state[name].shape)}, not {tuple(average.shape)}"
                )
            average.copy_(state[name])
        self.updates = int(state["updates"])

    def _current(self, module: nn.Module) -> dict[str, nn.Parameter]:
        current = dict(module.named_parameters())
        missing = sorted(self._averages.keys() - current.keys())
        if missing:
            raise ModelError(f"the module has no parameters {missing[:4]} any more")
        return current
