"""Rows of unlike widths in one pass of the language model, without a position that means nothing.

The positions of all rows stand one after the other, so norms, projections and feed-forward layers see no
padding. Attention alone needs rows: it takes the queries apart, lets each row see its own keys, and puts
the results back in line.

Axes: B rows, N positions over all rows, W positions of the widest row, H heads, K width of a head,
D router width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "superlink_packed"  # name of the attention, as transformers knows it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packing:
    """Which row each packed position belongs to, and where in that row's sequence it stands."""

    widths: tuple[int, ...]  # positions of each row, at least 1
    rows: Tensor  # (N,)
    columns: Tensor  # (N,) within the row's own positions of this pass
    slots: Tensor  # (N,) within the row's whole sequence

    @classmethod
    def of(cls, widths: Sequence[int], starts: Sequence[int], device: torch.device) -> Packing:
        """`widths` positions of each row, which go on from `starts`."""
        counts, begins = torch.tensor([widths, starts], device=device)
        rows = torch.arange(len(widths), device=device).repeat_interleave(counts)
        columns = torch.arange(len(rows), device=device) - (counts.cumsum(0) - counts)[rows]
        return cls(widths=tuple(widths), rows=rows, columns=columns, slots=begins[rows] + columns)

    @property
    def even(self) -> bool:
        """Every row has the same width."""
        return len(set(self.widths)) == 1

    @property
    def ends(self) -> list[int]:
        """Index of each row's last position."""
        ends, total = [], 0
        for width in self.widths:
            total += width
            ends.append(total - 1)
        return ends

    @property
    def used(self) -> int:
        """Slots that the pass can see: one more than the last that it writes."""
        return int(self.slots.max()) + 1

    def mask(self, dtype: torch.dtype) -> Tensor:
        """(B, 1, W, used) to add to scores: a position sees its own slot and those before."""
        device = self.slots.device
        later = torch.arange(self.used, device=device) > self.unpack(self.slots)[..., None]
        mask = torch.zeros(later.shape, dtype=dtype, device=device)
        return mask.masked_fill_(later, torch.finfo(dtype).min)[:, None]

    def unpack(self, packed: Tensor) -> Tensor:
        """(B, W, ...) of (N, ...); zeros behind the positions of a narrow row."""
        shape = (len(self.widths), max(self.widths), *packed.shape[1:])
        if self.even:
            return packed.reshape(shape)
        rows = packed.new_zeros(shape)
        rows[self.rows, self.columns] = packed
        return rows

    def pack(self, rows: Tensor) -> Tensor:
        """(N, ...) of (B, W, ...)."""
        return rows.flatten(0, 1) if self.even else rows[self.rows, self.columns]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """PyTorch's own attention, for packed rows where `packing` says so.

    Args:
        query: (1, H, N, K) if packed, else (B, H, W, K).
        key: (B, heads, C, K), as is `value`; of packed rows as the cache returns them.
        attention_mask: (B, 1, W, C) added to the scores.

    Returns:
        (1, N, H, K) if packed, else (B, W, H, K).
    """
    if packing is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return plain
    apart = packing.unpack(query[0].transpose(0, 1)).transpose(1, 2)
    seen, _ = sdpa_attention_forward(module, apart, key, value, attention_mask, **options)
    return packing.pack(seen)[None], None


AttentionInterface.register(PACKED, attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let `model` take packed rows; afterwards it attends as it did before."""
    before = model.config._attn_implementation
    if before == PACKED:
        yield
        return
    model.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
