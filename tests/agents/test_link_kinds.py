"""Decoders are only given links of the kinds that they can answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from superlink.agents.model_folder import check_outline, save_model
from superlink.decoders.contract import DecoderConfig, Route
from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError
from superlink.router.tokens import LinkKind, RoutingToken
from superlink.workflows.train.systems import FreshSystem, SavedSystem
from tests.agents.tiny_family import build_family, configs
from tests.agents.tiny_model import router_config, tokenizer
from tests.decoders.diffusion.painters import LENGTH, text_options


def of_kind(name: str, kind: LinkKind) -> tuple[RouterConfig, list[DecoderConfig]]:
    """The tiny family, with the tokens of one decoder of another link kind, for all who know them."""

    def changed(token: RoutingToken) -> RoutingToken:
        return replace(token, kind=kind, num_links=1) if token.decoder == name else token

    def rerouted(route: Route) -> Route:
        # Links of routes that follow each other have one shape, which is not what is tested here.
        takes = tuple(changed(token) for token in route.takes)
        return replace(route, token=changed(route.token), after=None, takes=takes)

    found: list[DecoderConfig] = []
    for config in configs():
        own: Any = config
        found.append(replace(own, routes=tuple(rerouted(route) for route in config.routes)))
    tokens = tuple(route.token for config in found for route in config.routes)
    return replace(router_config(tokenizer()), tokens=tokens), found


EVERYONE = pytest.mark.parametrize(
    "name", ["grounding_dino", "sam", "unipose", "stable_diffusion", "instruct_pix2pix"]
)


@EVERYONE
def test_decoders_that_cannot_read_refuse_tokens_that_are_words_alone(name: str) -> None:
    router, decoders = of_kind(name, "text")
    with pytest.raises(ModelError) as caught:
        check_outline(router, tokenizer(), decoders)
    said = str(caught.value)
    assert said.startswith(f"decoder {name!r} cannot answer [")
    assert "link kind 'text': it has no text encoder and tokenizer" in said
    assert said.endswith("give the token one of the kinds that it takes: 'super', 'token'")
    assert "\n" not in said


def test_words_of_objects_are_refused_by_whom_they_are_taken_along_to() -> None:
    router, decoders = of_kind("grounding_dino", "text")
    alone = [config for config in decoders if config.name == "unipose"]
    with pytest.raises(ModelError, match=r"'unipose' cannot answer \[DET\] of link kind 'text'"):
        check_outline(router, tokenizer(), alone)


@EVERYONE
def test_the_hidden_state_of_the_token_itself_is_a_link_for_everyone(name: str) -> None:
    router, decoders = of_kind(name, "token")
    check_outline(router, tokenizer(), decoders)


@pytest.mark.parametrize("name", ["stable_diffusion", "instruct_pix2pix"])
def test_painters_that_can_read_take_words(name: str) -> None:
    router, decoders = of_kind(name, "text")
    encoder = {"text_encoder": text_options(), "empty_caption": (0,) * LENGTH, "tokenizer": "words"}
    able: list[DecoderConfig] = []
    for config in decoders:
        own: Any = config
        able.append(replace(own, **encoder) if config.name == name else config)
    check_outline(router, tokenizer(), able)


def test_a_training_that_could_not_be_served_is_refused_before_it_begins(tmp_path: Path) -> None:
    router, decoders = of_kind("sam", "text")
    fresh = FreshSystem(name="odd", router=router, decoders=tuple(decoders), tokenizer=tokenizer())
    with pytest.raises(ModelError, match="'sam' cannot answer"):
        fresh.build()
    save_model(tmp_path, build_family())
    with pytest.raises(ModelError, match="every decoder needs a name of its own"):
        SavedSystem(folder=tmp_path, also=tuple(configs()[:1])).build()
