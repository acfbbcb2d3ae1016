"""What one forward pass of the router takes and gives.

Axes: B rows, T positions, P tiles over all rows, S tile side, R regions over all rows,
L link embeddings of one routing token, D router width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import Self

from superlink.router.errors import InputError
from superlink.router.tokens import RoutingToken


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouterBatch:
    """Right-padded rows, link placeholders written out after every routing token.

    Raises:
        InputError: a mask of another shape than the ids, or of rows that are not padded on the right.
    """

    input_ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, T) bool, True = a real position; numbers become that
    labels: Tensor | None = None  # (B, T) int64, -100 = no language loss
    tiles: Tensor | None = None  # (P, 3, S, S) normalised tiles, in reading order over rows
    tile_counts: tuple[tuple[int, ...], ...] = ()  # for each row, tiles of each of its images
    regions: Tensor | None = None  # (R, 1, S, S) 0/1 float, in reading order over rows
    region_images: tuple[tuple[int, ...], ...] = ()  # for each row, image index of each region

    def __post_init__(self) -> None:
        mask = self.attention_mask.bool()
        if mask.ndim != 2 or mask.shape != self.input_ids.shape:
            raise InputError(
                f"ids and their attention mask must have one shape, rows by positions, "
                f"got {tuple(self.input_ids.shape)} and {tuple(mask.shape)}"
            )
        # Links are read from the first positions of a row, as many as are real.
        gaps = (mask[:, 1:] & ~mask[:, :-1]).any(dim=1)
        if gaps.any():
            raise InputError(
                f"row {int(gaps.nonzero()[0])} has padding before a real position; pad rows on the right"
            )
        object.__setattr__(self, "attention_mask", mask)

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

    @classmethod
    def joined(cls, rows: Sequence[RouterBatch], *, pad: int) -> Self:
        """All rows of some batches as one, padded with id `pad`; labels are left out."""
        ids = [one for row in rows for one in row.input_ids]
        real = [one for row in rows for one in row.attention_mask]
        tiles = [row.tiles for row in rows if row.tiles is not None]
        regions = [row.regions for row in rows if row.regions is not None]
        return cls(
            input_ids=pad_sequence(ids, batch_first=True, padding_value=pad),
            attention_mask=pad_sequence(real, batch_first=True, padding_value=False),
            tiles=torch.cat(tiles) if tiles else None,
            tile_counts=tuple(counts for row in rows for counts in row.tile_counts or ((),) * len(row)),
            regions=torch.cat(regions) if regions else None,
            region_images=tuple(images for row in rows for images in row.region_images or ((),) * len(row)),
        )

    def __len__(self) -> int:
        """Rows."""
        return len(self.input_ids)

    def rows(self) -> list[RouterBatch]:
        """Each row as a batch without padding; labels are left out."""
        counts = self.tile_counts or ((),) * len(self)
        images = self.region_images or ((),) * len(self)
        found, tile, region = [], 0, 0
        for row, length in enumerate(self.attention_mask.sum(dim=1).tolist()):
            tiles, regions = tile + sum(counts[row]), region + len(images[row])
            found.append(
                RouterBatch(
                    input_ids=self.input_ids[row : row + 1, :length],
                    attention_mask=self.attention_mask[row : row + 1, :length],
                    tiles=None if self.tiles is None else self.tiles[tile:tiles],
                    tile_counts=(counts[row],),
                    regions=None if self.regions is None else self.regions[region:regions],
                    region_images=(images[row],),
                )
            )
            tile, region = tiles, regions
        return found

    def tail(self, starts: Sequence[int]) -> Tensor:
        """(B, T) bool: real positions that are not among the first `starts` of their row."""
        columns = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        begins = torch.tensor(starts, device=self.input_ids.device)
        return self.attention_mask & (columns >= begins[:, None])

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
