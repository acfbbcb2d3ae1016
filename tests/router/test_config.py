"""Router configurations: what they derive, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from superlink.router.config import RouterConfig, TokenIds
from superlink.router.errors import ModelError
from superlink.router.keymap import load_published, published_state
from superlink.router.model import Router
from superlink.router.tokens import LINK_PLACEHOLDERS, SPECIAL_TOKENS, RoutingToken


def test_json_text_gives_back_an_equal_configuration(config: RouterConfig) -> None:
    assert RouterConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("llm"), r"missing fields \['llm'\]"),
        (lambda data: data.update(colour="red"), r"unknown fields \['colour'\]"),
        (lambda data: data.update(max_tiles="four"), r"max_tiles must be int, got 'four'"),
        (lambda data: data.update(max_tiles=True), r"max_tiles must be int, got True"),
        (lambda data: data["tokens"][0].pop("table"), r"tokens .*missing fields \['table'\]"),
        (lambda data: data["token_ids"].update(sep=4), r"token_ids .*unknown fields \['sep'\]"),
        (lambda data: data.update(bridge="resampler"), r"bridge 'resampler' is unknown"),
        (lambda data: data.update(tiling="crop"), r"tiling 'crop' is unknown; use one of anyres"),
        (lambda data: data.update(region_pooling="max"), r"region_pooling 'max' is unknown"),
        (lambda data: data.update(max_tiles=0), r"at least 1, got 0"),
        (lambda data: data.update(vision_layer=-5), r"vision_layer -5 does not exist in a tower of 3"),
        (lambda data: data["vision"].update(image_size=30), r"multiple of 14, got 30"),
        (lambda data: data["vision"].update(image_size=[28, 28]), r"image_size must be one number"),
        (lambda data: data["vision"].update(image_sise=28), r"unknown to CLIPVisionConfig: \['image_sise'\]"),
        (lambda data: data["llm"].update(hidden_size="wide"), r"llm .*expected int, got str"),
        (lambda data: data["llm"].update(vocab_size=200), r"but llm vocab_size is 200"),
        (lambda data: data["token_ids"]["special"].pop("<region>"), r"no token '<region>'"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_in_one_line(
    config: RouterConfig, change: Any, message: str
) -> None:
    data = json.loads(json.dumps(config.to_json()))
    change(data)
    with pytest.raises(ModelError, match=message) as caught:
        RouterConfig.from_json(data)
    assert "\n" not in str(caught.value)


def test_tokens_that_share_a_table_must_need_as_many_links(config: RouterConfig) -> None:
    tokens = (
        RoutingToken(text="[DET]", decoder="boxes", table="det", num_links=4),
        RoutingToken(text="[SEG]", decoder="masks", table="det", num_links=5),
    )
    with pytest.raises(ModelError, match=r"share the query table 'det' but need 4 and 5 links"):
        replace(config, tokens=tokens)


@pytest.mark.parametrize("table", ["my-det", "my.det", "my det", "", "keys", "training", "weight\n"])
def test_a_table_that_no_tensor_can_be_named_after_is_refused(config: RouterConfig, table: str) -> None:
    with pytest.raises(ModelError, match=r"'\[DET\]' names its query table"):
        replace(config, tokens=(RoutingToken(text="[DET]", decoder="boxes", table=table, num_links=4),))


@pytest.mark.parametrize("table", ["det", "my_det2", "Größe"])
def test_a_table_of_letters_keeps_its_name_in_published_checkpoints(config: RouterConfig, table: str) -> None:
    tokens = (RoutingToken(text="[DET]", decoder="boxes", table=table, num_links=4),)
    router = Router(replace(config, tokens=tokens))
    state = {name: tensor.clone() for name, tensor in published_state(router).items()}
    assert f"emb_embeddings_{table}.weight" in state
    load_published(router, state)


def test_a_link_without_queries_is_one_hidden_state(config: RouterConfig) -> None:
    token = RoutingToken(text="[DET]", decoder="boxes", table="det", num_links=4, kind="token")
    with pytest.raises(ModelError, match="of kind 'token' has one link, got 4"):
        replace(config, tokens=(token,))


def test_perception_numbers_its_placeholders_and_generation_repeats_the_first(config: RouterConfig) -> None:
    ids = [config.token_ids[text] for text in LINK_PLACEHOLDERS]
    by_text = {token.text: config.placeholders(token) for token in config.tokens}
    assert by_text["[DET]"] == by_text["[SEG]"] == tuple(ids[:4])
    assert by_text["[POSE]"] == tuple(ids[:2])
    assert by_text["[GEN]"] == (ids[0],) * 7
    assert by_text["[GRD]"] == ()
    long = RoutingToken(text="[EDIT]", decoder="edits", table="other", num_links=9)
    assert config.placeholders(long) == (ids[0],) * 9


def test_tables_are_those_of_tokens_with_queries(config: RouterConfig) -> None:
    assert config.tables == {"det": 4, "pose": 2, "gen": 7}


def test_special_tokens_follow_the_base_vocabulary_in_the_published_order() -> None:
    ids = TokenIds.following(32000)
    assert (ids["[PAD]"], ids["<im_patch>"], ids["<region>"], ids["[DET]"], ids["[EDIT]"], ids["[EMB]"]) == (
        32000,
        32002,
        32003,
        32012,
        32017,
        32018,
    )
    assert max(ids.special.values()) == 32025 == 32000 + len(SPECIAL_TOKENS) - 1


def test_merging_visual_tokens_needs_a_quarter_of_them(config: RouterConfig) -> None:
    assert config.tokens_per_tile == 4
    assert replace(config, pixel_shuffle=True).tokens_per_tile == 1
    with pytest.raises(ModelError, match="multiple of 28, got 42"):
        replace(config, pixel_shuffle=True, vision={**config.vision, "image_size": 42})
