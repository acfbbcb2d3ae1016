"""Weights of the published wrappers (`sd.` and `ip2p.` of VisionLLM v2) under their names, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from superlink.decoders.contract import Route
from superlink.decoders.diffusion.config import DiffusionConfig
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.strict import load_exactly

Config = TypeVar("Config", bound=DiffusionConfig)

# (ours, published)
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("mapper.projection.", "emb_proj."),
    ("mapper.queries", "llm2sd_mapper_queries"),
    ("mapper.transformer.", "llm2sd_mapper."),
    ("text_encoder.", "sd_text_encoder.text_model."),
    ("vae.", "sd_vae."),
    ("unet.", "sd_unet."),
)


def config_from_published(base: Config, data: Mapping[str, Any]) -> Config:
    """The published `sd_config` or `ip2p_config` as ours.

    Args:
        base: with the networks that its `sd_model_id` names, see `config_from_folder`.
        data: the published fields.
    """
    tokens = [
        Route(token=replace(route.token, num_links=data["num_embed_tokens"]), returns=route.returns)
        for route in base.routes
    ]
    return replace(
        base,
        routes=tuple(tokens),
        num_queries=data["num_queries"],
        mapper_encoder_layers=data["num_encoder_layers"],
        mapper_decoder_layers=data["num_decoder_layers"],
        drop_rate=data["cfg_drop_rate"],
    )


def published_name(name: str) -> str:
    """The published name of one of our tensors; a name that no rule knows stays."""
    return _renamed(name, _PREFIXES)


def our_name(published: str) -> str:
    """Our name of a published tensor; a name that no rule knows stays."""
    return _renamed(published, [(theirs, ours) for ours, theirs in _PREFIXES])


def to_published(decoder: DiffusionDecoder, *, prefix: str = "") -> dict[str, Tensor]:
    """The decoder's weights under the published names."""
    return {prefix + published_name(name): tensor for name, tensor in decoder.state_dict().items()}


def load_published(decoder: DiffusionDecoder, state: Mapping[str, Tensor], *, prefix: str = "") -> None:
    """Load a published state dict.

    Args:
        state: entries that do not start with `prefix` are someone else's and are ignored.
        prefix: "sd." or "ip2p." inside a whole checkpoint.

    Raises:
        ModelError: entries are missing, unknown or of another shape.
    """
    own = {
        our_name(name.removeprefix(prefix)): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    load_exactly(decoder, own, decoder.config.name, published=published_name)


def _renamed(name: str, prefixes: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    for old, new in prefixes:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
