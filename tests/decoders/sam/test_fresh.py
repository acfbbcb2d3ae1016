"""Fresh weights: a prompt is found where it is before anything has been learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from superlink.decoders.sam.config import SamConfig, small_sam
from superlink.decoders.sam.model import PromptBatch, SegmentAnything

SIDE, CELL = 224, 8


def fresh(config: SamConfig | None = None) -> SegmentAnything:
    torch.manual_seed(0)
    return SegmentAnything(config or small_sam()).eval()


def clicked(model: SegmentAnything, places: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 1, c) embeddings of one click each, and the dense ones."""
    inside = torch.ones(len(places), 1, dtype=torch.long)
    batch = PromptBatch(size=len(places), points=places[:, None], inside=inside, boxes=None, masks=None)
    sparse, dense = model.embed(batch)
    return sparse[:, :1], dense


def test_cells_attend_most_to_clicks_near_them_before_anything_is_learned() -> None:
    model = fresh()
    places = torch.tensor([[36.0, 60.0], [180.0, 44.0], [100.0, 196.0]])
    sparse, _ = clicked(model, places)
    cells = model.positions().flatten(2)[0].T  # (g * g, c)
    for layer in model.mask_decoder.transformer.layers:
        attention = layer.cross_attn_image_to_token
        with torch.no_grad():
            score = attention.q_proj(cells) @ attention.k_proj(sparse[:, 0]).T
        best = score.argmax(0)
        found = torch.stack([best % model.grid, best // model.grid], 1) * CELL + CELL / 2
        assert float((found - places).norm(dim=1).max()) < 3 * CELL


def test_signals_keep_their_size_through_the_encoder() -> None:
    model = fresh()
    with torch.no_grad():
        hidden = model.vision_encoder.patch_embed(torch.randn(2, 3, SIDE, SIDE))
        assert 0.5 < float(hidden.std()) < 2.0
        for layer in model.vision_encoder.layers:
            hidden = layer(hidden)
            assert 0.5 < float(hidden.std()) < 2.5


def test_no_layer_of_either_part_is_left_as_it_was_built() -> None:
    model = fresh()
    for part in (model.vision_encoder, model.mask_decoder):
        for layer in part.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)) and layer.bias is not None:
                assert not layer.bias.any()
