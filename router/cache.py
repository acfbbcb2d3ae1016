"""Keys and values of rows that grow at their own pace.

A token's slot is its position in its own row, so a row has no gaps whatever its neighbours do,
and "slot <= position of the query" is the whole attention mask.

Axes: B rows, H key heads, C slots, N positions of all rows in one step, K width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

GROWTH = 64  # slots added at least when a row runs out of them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowStates:
    """Keys and values of one row's first positions, apart from any cache."""

    keys: tuple[Tensor, ...]  # a layer: (H, T, K)
    values: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(states.nbytes for states in (*self.keys, *self.values))


class SlotCache(Cache):
    """Keys and values of every layer, written at given slots."""

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self._rows = rows
        self._keys: list[Tensor] = []  # a layer: (B, H, C, K)
        self._values: list[Tensor] = []
        self._places = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        self._used = 0

    def place(self, rows: Tensor, slots: Tensor, used: int) -> None:
        """Say where the next forward pass writes.

        Args:
            rows: (N,) of each position.
            slots: (N,) of each position, within its row.
            used: slots that the step can see, more than every entry of `slots`.
        """
        self._places = (rows, slots)
        self._used = used
        self._reserve(used)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write (1, H, N, K) states of one layer; return (B, H, used, K), all that the step can see."""
        if layer_idx == len(self._keys):
            shape = (self._rows, key_states.shape[1], _capacity(self._used))
            self._keys.append(key_states.new_zeros(*shape, key_states.shape[3]))
            self._values.append(value_states.new_zeros(*shape, value_states.shape[3]))
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        rows, slots = self._places
        keys[rows, :, slots] = key_states[0].transpose(0, 1)
        values[rows, :, slots] = value_states[0].transpose(0, 1)
        return keys[:, :, : self._used], values[:, :, : self._used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._used

    def row(self, row: int, length: int) -> RowStates:
        """A copy of the first `length` slots of a row."""
        return RowStates(
            keys=tuple(keys[row, :, :length].clone() for keys in self._keys),
            values=tuple(values[row, :, :length].clone() for values in self._values),
        )

    def fill(self, row: int, states: RowStates, length: int) -> None:
        """Let a row begin with the first `length` positions of another one of the same model."""
        if not self._keys:
            shape = (self._rows, states.keys[0].shape[0], _capacity(length))
            self._keys = [keys.new_zeros(*shape, keys.shape[2]) for keys in states.keys]
            self._values = [values.new_zeros(*shape, values.shape[2]) for values in states.values]
        self._reserve(length)
        for kept, keys in zip(self._keys, states.keys, strict=True):
            kept[row, :, :length] = keys[:, :length]
        for kept, values in zip(self._values, states.values, strict=True):
            kept[row, :, :length] = values[:, :length]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        index = torch.tensor(rows, dtype=torch.int64)
        self._keys = [keys.index_select(0, index.to(keys.device)) for keys in self._keys]
        self._values = [values.index_select(0, index.to(values.device)) for values in self._values]
        self._rows = len(rows)

    def join(self, other: SlotCache) -> None:
        """Append the rows of another cache of the same model."""
        capacity = max(cache._keys[0].shape[2] for cache in (self, other))
        self._resize(capacity)
        other._resize(capacity)
        keys = [torch.cat(pair) for pair in zip(self._keys, other._keys, strict=True)]
        values = [torch.cat(pair) for pair in zip(self._values, other._values, strict=True)]
        # All or nothing: where memory runs out before this, the rows here are as they were.
        self._keys, self._values = keys, values
        self._rows += other._rows

    def _reserve(self, slots: int) -> None:
        if self._keys and slots > self._keys[0].shape[2]:
            self._resize(_capacity(slots))

    def _resize(self, capacity: int) -> None:
        """Add slots of zeros: what the mask hides must still be finite."""
        more = capacity - self._keys[0].shape[2]
        if more > 0:
            self._keys = [torch.nn.functional.pad(keys, (0, 0, 0, more)) for keys in self._keys]
            self._values = [torch.nn.functional.pad(values, (0, 0, 0, more)) for values in self._values]


def _capacity(slots: int) -> int:
    return (slots // GROWTH + 1) * GROWTH
