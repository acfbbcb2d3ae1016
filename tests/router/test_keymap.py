"""Published names of the router's tensors."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from superlink.decoders.strict import load_exactly
from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError
from superlink.router.keymap import (
    load_published,
    load_strictly,
    our_name,
    published_name,
    published_state,
    split_published,
)
from superlink.router.model import Router


@pytest.mark.parametrize(
    ("ours", "published"),
    [
        ("vision_tower.pre_layrnorm.bias", "vis_encoder.vision_model.pre_layrnorm.bias"),
        (
            "vision_tower.encoder.layers.3.self_attn.q_proj.weight",
            "vis_encoder.vision_model.encoder.layers.3.self_attn.q_proj.weight",
        ),
        ("llm.model.layers.0.mlp.up_proj.weight", "llm.model.layers.0.mlp.up_proj.weight"),
        ("llm.lm_head.weight", "llm.lm_head.weight"),
        ("bridge.2.bias", "vl_bridge.2.bias"),
        ("bridge.weight", "vl_bridge.weight"),
        ("region_encoder.stem.6.weight", "region_encoder.mask_embedding.6.weight"),
        ("region_encoder.project.weight", "region_encoder.up_dim.weight"),
        ("region_encoder.query.weight", "region_encoder.region_query.weight"),
        ("region_encoder.attention.in_proj_weight", "region_encoder.region_attn.in_proj_weight"),
        ("queries.det.weight", "emb_embeddings_det.weight"),
        ("queries.edit.weight", "emb_embeddings_edit.weight"),
    ],
)
def test_names_are_those_of_the_published_checkpoint(ours: str, published: str) -> None:
    assert published_name(ours) == published
    assert our_name(published) == ours


@pytest.mark.parametrize("pooling", ["grid_sample", "cross_attn"])
def test_every_tensor_has_a_published_name_and_finds_back(config: RouterConfig, pooling: str) -> None:
    router = Router(replace(config, region_pooling=pooling))  # type: ignore[arg-type]
    names = list(router.state_dict())
    assert [our_name(published_name(name)) for name in names] == names
    assert len(published_state(router)) == len(names)


def test_a_name_of_no_part_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'gdino.level_embed' belongs to no part of a router"):
        our_name("gdino.level_embed")


def test_decoders_in_a_checkpoint_are_set_apart(router: Router) -> None:
    state: dict[str, Tensor] = published_state(router)
    mine, rest = split_published({**state, "gdino.model.level_embed": torch.zeros(2), "sd.x": torch.zeros(1)})
    assert mine.keys() == state.keys()
    assert set(rest) == {"gdino.model.level_embed", "sd.x"}


def test_position_buffers_may_be_there_or_not(router: Router, config: RouterConfig) -> None:
    target = Router(config)
    ids = "vis_encoder.vision_model.embeddings.position_ids"
    load_published(target, {**published_state(router), ids: torch.arange(5)[None]})
    for name, tensor in router.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


def test_missing_unknown_and_reshaped_tensors_are_all_named_with_their_shapes(
    router: Router, config: RouterConfig
) -> None:
    target = Router(config)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = published_state(router)
    del state["llm.lm_head.weight"]
    state["llm.lm_tail.weight"] = torch.zeros(2, 3)
    state["emb_embeddings_det.weight"] = torch.zeros(5, 32)
    vocabulary = config.llm["vocab_size"]
    with pytest.raises(
        ModelError,
        match=re.escape(f"1 missing: llm.lm_head.weight ({vocabulary}, 32); ")
        + r"1 unknown: llm\.lm_tail\.weight \(2, 3\); "
        r"1 of another shape: queries\.det\.weight \(5, 32\) instead of \(4, 32\)",
    ):
        load_published(target, state)
    for name, tensor in target.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_long_list_of_problems_is_cut(config: RouterConfig) -> None:
    with pytest.raises(ModelError, match=r"missing: .* and \d+ more") as caught:
        load_published(Router(config), {})
    assert "\n" not in str(caught.value)


def test_quantised_weights_are_refused() -> None:
    layer = torch.nn.Linear(2, 3)
    state = layer.state_dict() | {"weight": torch.ones(3, 2, dtype=torch.int8)}
    with pytest.raises(ModelError, match=r"1 of another kind: weight torch\.int8 instead of torch\.float32"):
        load_strictly(layer, state, "the layer")
    with pytest.raises(ModelError, match=r"weight: torch\.int8, not torch\.float32"):
        load_exactly(layer, state, "the layer")
