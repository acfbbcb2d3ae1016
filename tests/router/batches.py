"""Small batches with words, pictures, regions and routing tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.groups import expand


def example_rows(config: RouterConfig) -> list[list[int]]:
    """Ids of four unequal rows; pictures: one, two, none, one; regions in the first and second."""
    ids = config.token_ids
    picture = [ids.image_patch] * config.tokens_per_tile
    rows = [
        [ids.bos, *picture, 5, ids.region, 6, ids["[DET]"], 7, ids["[DET]"], ids.eos],
        [ids.bos, *picture, *picture, 9, *picture, ids.region, ids.region, 4, ids["[POSE]"], ids["[SEG]"]],
        [ids.bos, 8, 8, ids["[GEN]"], 9, ids.eos],
        [ids.bos, *picture, 11, ids["[GRD]"], 12],
    ]
    return [expand(row, config) for row in rows]


def batch_of(config: RouterConfig, rows: Sequence[Sequence[int]], *, seed: int = 0) -> RouterBatch:
    """The example rows as a batch, or some of them: pictures and masks follow from the ids."""
    everything = example_rows(config)
    counts = [((1,), (2, 1), (), (1,))[everything.index(list(row))] for row in rows]
    on = [((0,), (1, 0), (), ())[everything.index(list(row))] for row in rows]
    side = config.image_size
    tiles, masks = [], []
    for row, count, images in zip(rows, counts, on, strict=True):
        generator = torch.Generator().manual_seed(seed + sum(row))
        tiles.append(torch.randn(sum(count), 3, side, side, generator=generator))
        masks.append((torch.rand(len(images), 1, side, side, generator=generator) > 0.6).float())
    longest = max(map(len, rows))
    input_ids = torch.tensor([[*row, *[config.token_ids.pad] * (longest - len(row))] for row in rows])
    attention_mask = torch.tensor([[index < len(row) for index in range(longest)] for row in rows])
    return RouterBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=input_ids.masked_fill(~attention_mask, -100),
        tiles=torch.cat(tiles),
        tile_counts=tuple(counts),
        regions=torch.cat(masks),
        region_images=tuple(on),
    )
