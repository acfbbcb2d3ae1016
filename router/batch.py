"""What one forward pass of the router takes and gives.

Axes: B rows, T positions, P tiles over all rows, S tile side, R regions over all rows,
L link embeddings of one routing token, D router width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.router.tokens import RoutingToken


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouterBatch:
    """Right-padded rows, link placeholders written out after every routing token."""

    input_ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, T) bool, True = a real position
    labels: Tensor | None = None  # (B, T) int64, -100 = no language loss
    tiles: Tensor | None = None  # (P, 3, S, S) normalised tiles, in reading order over rows
    tile_counts: tuple[tuple[int, ...], ...] = ()  # for each row, tiles of each of its images
    regions: Tensor | None = None  # (R, 1, S, S) 0/1 float, in reading order over rows
    region_images: tuple[tuple[int, ...], ...] = ()  # for each row, image index of each region

    def padded(self, multiple: int, *, pad: int) -> RouterBatch:
        """The same rows, padded on the right with id `pad` to a multiple of some positions.

        A CPU keeps compiled kernels of every shape that it has seen: few lengths, little memory.
        """
        more = -self.input_ids.shape[1] % multiple
        labels = None if self.labels is None else F.pad(self.labels, (0, more), value=-100)
        return replace(
            self,
            input_ids=F.pad(self.input_ids, (0, more), value=pad),
            attention_mask=F.pad(self.attention_mask, (0, more), value=False),
            labels=labels,
        )

    def to(self, device: torch.device | str) -> RouterBatch:
        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return RouterBatch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            labels=move(self.labels),
            tiles=move(self.tiles),
            tile_counts=self.tile_counts,
            regions=move(self.regions),
            region_images=self.region_images,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowLink:
    """Link embeddings gathered by their owning routing token."""

    token: RoutingToken
    position: int  # of the routing token in the row of `input_ids`
    embeddings: Tensor  # (L, D), a view with graph


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouterOutput:
    logits: Tensor  # (B, T, vocabulary) float32; with `only_labelled` (N, vocabulary)
    hidden: Tensor  # (B, T, D) after the final norm
    links: tuple[tuple[RowLink, ...], ...]  # for each row, in reading order
    loss: Tensor | None = None  # mean cross-entropy over labelled positions
    loss_count: int = 0  # labelled positions
    visual: Tensor | None = None  # (P, n, D) visual tokens as the language model read them, when asked for
    hidden_states: tuple[Tensor, ...] = field(default=())  # every layer, when asked for
