"""The router: vision tower, bridge, region encoder and language model, with link queries spliced in.

`forward` reads rows in which every routing token is followed by its placeholders; the learned
queries take the placeholders' positions, and the hidden states there are the super-links.

Axes: B rows, T positions, P tiles over all rows, R regions over all rows, n visual tokens of a
tile, L link embeddings of one routing token, D router width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from typing_extensions import Self

from superlink.router.batch import RouterBatch, RouterOutput, RowLink
from superlink.router.bridge import build_bridge, shuffle_pixels
from superlink.router.config import RouterConfig
from superlink.router.errors import InputError, LinkError
from superlink.router.groups import LinkGroup, expand, find_groups
from superlink.router.packing import PACKED
from superlink.router.places import Places
from superlink.router.regions import PointSampler, RegionEncoder
from superlink.router.tokens import RoutingToken
from superlink.router.tower import build_tower, look, tower_width

IGNORED = -100  # label of a position without language loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisualFeatures:
    """What the tower and the bridge make of tiles."""

    tokens: Tensor  # (P, n, D), as the language model reads them
    levels: tuple[Tensor, ...]  # (P, patches, C) each, for the region encoder


class Router(nn.Module):
    """A multimodal language model with routing tokens and link queries."""

    def __init__(self, config: RouterConfig) -> None:
        super().__init__()
        self.config = config
        llm = config.llm_config()
        self.vision_tower = build_tower(config)
        seen = tower_width(self.vision_tower)
        language = LlamaForCausalLM(llm)
        language.set_attn_implementation(PACKED)  # answers are written without padding
        self.llm: nn.Module = language
        merged = 4 if config.pixel_shuffle else 1
        self.bridge = build_bridge(config.bridge, merged * seen, llm.hidden_size)
        self.places = (
            Places(config.tokens_per_tile, llm.hidden_size, llm.initializer_range) if config.places else None
        )
        self.region_encoder = (
            RegionEncoder(
                width=seen,
                out_width=llm.hidden_size,
                patch_size=config.patch_size,
                pooling=config.region_pooling,
                points=config.region_points,
            )
            if config.region_encoder
            else None
        )
        tables = {table: nn.Embedding(length, llm.hidden_size) for table, length in config.tables.items()}
        for table in tables.values():
            nn.init.normal_(table.weight, std=llm.initializer_range)
        self.queries = nn.ModuleDict(tables)
        if config.freeze_vision:
            self.vision_tower.requires_grad_(False).eval()

    @property
    def language(self) -> LlamaForCausalLM:
        """The language model itself, also where adapters are wrapped around it."""
        if isinstance(self.llm, LlamaForCausalLM):
            return self.llm
        wrapper: Any = self.llm  # a PeftModel; its layers are changed in place
        base: LlamaForCausalLM = wrapper.get_base_model()
        return base

    @property
    def device(self) -> torch.device:
        device: torch.device = self.language.lm_head.weight.device
        return device

    def train(self, mode: bool = True) -> Self:
        """Training or eval mode; a frozen tower stays in eval mode."""
        super().train(mode)
        if self.config.freeze_vision:
            # Without gradients it would still drop paths and move its batch norms' statistics.
            self.vision_tower.eval()
        return self

    def forward(
        self,
        batch: RouterBatch,
        *,
        output_hidden_states: bool = False,
        only_labelled: bool = False,
        output_visual: bool = False,
        sampler: PointSampler | None = None,
    ) -> RouterOutput:
        """One pass over complete rows.

        Args:
            batch: rows with placeholders written out (`expand`).
            output_hidden_states: also keep every layer's output.
            only_labelled: logits (N, V) of the N positions before a label alone, in reading order, for
                training: a third of the positions and less. The loss is the same.
            output_visual: also keep the visual tokens of all tiles.
            sampler: mask pixels for the region encoder.

        Raises:
            LinkError: placeholders that do not match their routing tokens.
            InputError: visual tokens or regions that do not match the tiles or masks.
        """
        groups = self.groups(batch.input_ids, batch.attention_mask)
        embeds = self.embed(batch, sampler=sampler, groups=groups)
        output = self.language.model(
            inputs_embeds=embeds,
            attention_mask=batch.attention_mask,
            use_cache=False,
            output_hidden_states=output_hidden_states,
        )
        hidden = output.last_hidden_state
        visual = None
        if output_visual:
            patches = (batch.input_ids == self.config.token_ids.image_patch) & batch.attention_mask
            visual = embeds[patches].view(-1, self.config.tokens_per_tile, embeds.shape[-1])
        labels = self._next_labels(batch)
        if only_labelled and labels is not None:
            labelled = labels != IGNORED
            logits = self.language.lm_head(hidden[:, :-1][labelled]).float()
            total = F.cross_entropy(logits, labels[labelled], reduction="sum")
        else:
            logits = self.language.lm_head(hidden).float()
            total = logits.new_zeros(())
            if labels is not None:
                written = logits[:, :-1].flatten(0, 1)
                total = F.cross_entropy(written, labels.flatten(), ignore_index=IGNORED, reduction="sum")
        count = 0 if labels is None else int((labels != IGNORED).sum())
        return RouterOutput(
            logits=logits,
            hidden=hidden,
            links=_row_links(groups, hidden),
            loss=None if labels is None else total / max(count, 1),
            loss_count=count,
            visual=visual,
            hidden_states=tuple(output.hidden_states) if output_hidden_states else (),
        )

    def embed(
        self,
        batch: RouterBatch,
        *,
        sampler: PointSampler | None = None,
        groups: Sequence[Sequence[LinkGroup]] | None = None,
        starts: Sequence[int] | None = None,
    ) -> Tensor:
        """(B, T, D) what the language model reads: words, visual tokens, regions and link queries.

        Args:
            batch: complete rows, as for `forward`.
            sampler: mask pixels for the region encoder.
            groups: what `groups` finds in the batch, where that is known.
            starts: for each row, how many of its first positions are known from elsewhere: what
                stands there in the result means nothing, and a tile that nothing later needs is
                not looked at. Such a cut goes through no tile.

        Raises:
            InputError: visual tokens or regions that do not match the tiles or masks, or a cut
                through a tile.
        """
        if groups is None:
            groups = self.groups(batch.input_ids, batch.attention_mask)
        embeds: Tensor = self.language.get_input_embeddings()(batch.input_ids)
        embeds = self._with_queries(embeds, groups)
        self._check_pictures(batch)
        if batch.tiles is None or len(batch.tiles) == 0:
            return embeds
        if starts is not None and any(starts):
            return self._with_later_pictures(embeds, batch, batch.tail(starts))
        features = self.see(batch.tiles)
        embeds = _replaced(embeds, self._patches(batch), features.tokens.flatten(0, 1))
        if batch.regions is None or len(batch.regions) == 0:
            return embeds
        overviews = _overviews(batch)
        embeddings = self._describe_regions(
            batch.tiles[overviews], batch.regions, [level[overviews] for level in features.levels], sampler
        )
        return _replaced(embeds, self._regions(batch), embeddings)

    def see(self, tiles: Tensor) -> VisualFeatures:
        """Visual tokens of (P, 3, S, S) normalised tiles."""
        with torch.no_grad() if self.config.freeze_vision else nullcontext():
            tokens, levels = look(self.vision_tower, tiles, self.config)
        if self.config.pixel_shuffle:
            tokens = shuffle_pixels(tokens)
        seen: Tensor = self.bridge(tokens)
        return VisualFeatures(tokens=seen if self.places is None else self.places(seen), levels=levels)

    def query(self, token: RoutingToken) -> Tensor:
        """(L, D) learned queries of a routing token; (0, D) for a link kind without queries."""
        if token.kind != "super":
            return torch.zeros(0, self.config.width, device=self.device)
        found = self.config.tables.get(token.table, 0)
        if found != token.num_links:
            raise LinkError(
                f"routing token {token.text!r} needs {token.num_links} queries of table {token.table!r}, "
                f"this router has {found}; list the token in the router's configuration"
            )
        return self.queries.get_parameter(f"{token.table}.weight")

    def expand(self, ids: Sequence[int]) -> list[int]:
        """`ids` of one row with placeholders written after every routing token that lacks them."""
        return expand(ids, self.config)

    def groups(self, input_ids: Tensor, attention_mask: Tensor) -> list[list[LinkGroup]]:
        """For each row, its routing tokens and where their links stand."""
        lengths = attention_mask.sum(dim=1).tolist()
        return [
            find_groups(row[:length], self.config)
            for row, length in zip(input_ids.tolist(), lengths, strict=True)
        ]

    def gather_links(
        self, input_ids: Tensor, attention_mask: Tensor, hidden: Tensor
    ) -> tuple[tuple[RowLink, ...], ...]:
        """For each row, its links in reading order, read from (B, T, D) hidden states."""
        return _row_links(self.groups(input_ids, attention_mask), hidden)

    def _with_queries(self, embeds: Tensor, groups: Sequence[Sequence[LinkGroup]]) -> Tensor:
        places = [(row, group) for row, found in enumerate(groups) for group in found if group.has_queries]
        if not places:
            return embeds
        rows = [row for row, group in places for _ in range(group.start, group.stop)]
        columns = [column for _, group in places for column in range(group.start, group.stop)]
        queries = torch.cat([self.query(group.token) for _, group in places]).to(embeds.dtype)
        index = torch.tensor([rows, columns], device=embeds.device)
        return embeds.index_put((index[0], index[1]), queries)

    def _patches(self, batch: RouterBatch) -> Tensor:
        """(B, T) bool: where visual tokens stand."""
        return (batch.input_ids == self.config.token_ids.image_patch) & batch.attention_mask

    def _regions(self, batch: RouterBatch) -> Tensor:
        """(B, T) bool: where regions stand."""
        return (batch.input_ids == self.config.token_ids.region) & batch.attention_mask

    def _with_later_pictures(self, embeds: Tensor, batch: RouterBatch, tail: Tensor) -> Tensor:
        """`embeds` with those visual tokens and regions that stand where `tail` (B, T) is true."""
        assert batch.tiles is not None
        patches, marks = self._patches(batch), self._regions(batch)
        parts = tail[patches].view(len(batch.tiles), -1)  # (P, n)
        read = parts.all(dim=1)
        if not torch.equal(read, parts.any(dim=1)):
            raise InputError("a row that is known in part was cut inside a tile; cut it before or after")
        described = tail[marks]  # (R,)
        overviews = _overviews(batch)[described]
        # A new region on a picture that was read before: its overview is looked at once more.
        needed = read.clone()
        needed[overviews] = True
        if not needed.any():
            return embeds
        features = self.see(batch.tiles[needed])
        place = needed.cumsum(dim=0) - 1  # of a tile among the needed ones
        embeds = _replaced(embeds, patches & tail, features.tokens[place[read]].flatten(0, 1))
        if batch.regions is None or len(overviews) == 0:
            return embeds
        levels = [level[place[overviews]] for level in features.levels]
        embeddings = self._describe_regions(batch.tiles[overviews], batch.regions[described], levels, None)
        return _replaced(embeds, marks & tail, embeddings)

    def _describe_regions(
        self, tiles: Tensor, masks: Tensor, levels: Sequence[Tensor], sampler: PointSampler | None
    ) -> Tensor:
        """(R, D) embeddings of regions, each with the last tile of its picture and that tile's features."""
        if self.region_encoder is None:
            raise InputError("this router has no region encoder; ask without points, boxes and masks")
        embeddings: Tensor = self.region_encoder(tiles, masks, levels, sampler=sampler)
        return embeddings

    def _check_pictures(self, batch: RouterBatch) -> None:
        """Every row holds as many visual tokens and regions as its pictures and masks need."""
        rows = len(batch.input_ids)
        patches = self._patches(batch).sum(dim=1).tolist()
        marks = self._regions(batch).sum(dim=1).tolist()
        counts = batch.tile_counts or ((),) * rows
        images = batch.region_images or ((),) * rows
        if len(counts) != rows or len(images) != rows:
            raise InputError(
                f"a batch of {rows} rows needs tile counts and region images for each, "
                f"got {len(counts)} and {len(images)}"
            )
        for row in range(rows):
            wanted = sum(counts[row]) * self.config.tokens_per_tile
            if patches[row] != wanted:
                raise InputError(
                    f"row {row} has {patches[row]} visual tokens, {sum(counts[row])} tiles make {wanted}; "
                    f"was it cut off, or encoded for another image size?"
                )
            if marks[row] != len(images[row]):
                raise InputError(f"row {row} has {marks[row]} region tokens for {len(images[row])} regions")
            if any(not 0 <= image < len(counts[row]) for image in images[row]):
                raise InputError(
                    f"row {row} has regions on images {list(images[row])}, but {len(counts[row])} images"
                )
        _check_total("tiles", batch.tiles, sum(sum(row) for row in counts))
        _check_total("regions", batch.regions, sum(len(row) for row in images))

    def labelled(self, batch: RouterBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Row, position and id (N,) of every label, in the order of `only_labelled` logits.

        A position is that of the output, one before the label's own.

        Raises:
            InputError: rows without labels.
        """
        labels = self._next_labels(batch)
        if labels is None:
            raise InputError("these rows have no labels; encode them with training=True")
        row, position = (labels != IGNORED).nonzero(as_tuple=True)
        return row, position, labels[row, position]

    def _next_labels(self, batch: RouterBatch) -> Tensor | None:
        """(B, T - 1) what each position but the last should write next; placeholders never count."""
        if batch.labels is None:
            return None
        placeholders = torch.tensor(self.config.token_ids.placeholders, device=batch.input_ids.device)
        ignored = torch.isin(batch.input_ids, placeholders) | ~batch.attention_mask
        return batch.labels.masked_fill(ignored, IGNORED)[:, 1:]


def _row_links(groups: Sequence[Sequence[LinkGroup]], hidden: Tensor) -> tuple[tuple[RowLink, ...], ...]:
    return tuple(
        tuple(
            RowLink(
                token=group.token,
                position=group.position,
                embeddings=hidden[row, group.start : group.stop],
            )
            for group in found
        )
        for row, found in enumerate(groups)
    )


def _overviews(batch: RouterBatch) -> Tensor:
    """(R,) index of the last tile of each region's picture, which shows all of it."""
    found, first = [], 0
    regions = batch.region_images or ((),) * len(batch)
    for counts, images in zip(batch.tile_counts, regions, strict=True):
        found += [first + sum(counts[: image + 1]) - 1 for image in images]
        first += sum(counts)
    return torch.tensor(found, dtype=torch.int64, device=batch.input_ids.device)


def _replaced(embeds: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """`embeds` (B, T, D) with `values` (N, D) at the N true positions of `where` (B, T), in order."""
    return embeds.index_put(where.nonzero(as_tuple=True), values.to(embeds.dtype))


def _check_total(what: str, tensor: Tensor | None, expected: int) -> None:
    found = 0 if tensor is None else len(tensor)
    if found != expected:
        raise InputError(f"the batch holds {found} {what}, but its rows speak of {expected}")
