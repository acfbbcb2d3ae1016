"""Model folders: a router, its words and its decoders as files.

    system.json                    name, format and the decoders' names
    router/                        config.json, model*.safetensors
    tokenizer/                     tokenizer.json
    decoders/<name>/               config.json, model*.safetensors, tokenizer/ where it reads words itself

Everything loads strictly: a tensor too many, too few or of another shape is an error. Nothing outside of
the folder is needed, so it works wherever it is moved to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from superlink.agents.decoder_folder import decoder_folder, load_decoder
from superlink.agents.embedded import SYSTEM_FILE, model_folder
from superlink.decoders.contract import Decoder, DecoderConfig, Route
from superlink.decoders.diffusion import InstructPix2PixConfig, StableDiffusionConfig
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.decoders.sam import SamConfig
from superlink.decoders.unipose import UniPoseConfig
from superlink.router.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_NAME,
    Precision,
    load_json,
    load_router,
    save_json,
    save_router,
    save_weights,
)
from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.router.tokens import SPECIAL_TOKENS, RoutingToken

FORMAT = 1
DECODERS: tuple[type[DecoderConfig], ...] = (
    GroundingDinoConfig,
    SamConfig,
    UniPoseConfig,
    StableDiffusionConfig,
    InstructPix2PixConfig,
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """Everything that a system is made of, in memory."""

    name: str
    router: Router
    tokenizer: RouterTokenizer
    decoders: tuple[Decoder[Any, Any], ...]

    def __post_init__(self) -> None:
        check_outline(self.router.config, self.tokenizer, [decoder.config for decoder in self.decoders])


def save_model(folder: str | Path, model: Model, *, dtype: Precision = "fp32") -> None:
    """Write a folder that `load_model` reads; `system.json` comes last and makes it complete.

    Args:
        folder: made if needed.
        dtype: of the weights in the files.

    Raises:
        ModelError: adapters are still around the language model, or a decoder's name is no folder name.
        InputError: files that a decoder needs cannot be copied into the folder.
    """
    folder = Path(folder)
    save_router(folder / "router", model.router, dtype=dtype)
    model.tokenizer.save(folder / "tokenizer")
    for decoder in model.decoders:
        config = decoder.config
        if not _NAME.fullmatch(config.name):
            raise ModelError(
                f"a decoder called {config.name!r} cannot be a folder; use letters, digits and _"
            )
        place = decoder_folder(folder, config.name)
        data = config.packed(place).to_json()
        save_json(place / CONFIG_FILE, {"type": type(config).__name__, "config": data})
        save_weights(place, WEIGHTS_NAME, decoder.state_dict(), dtype=dtype)
    names = [decoder.config.name for decoder in model.decoders]
    save_json(folder / SYSTEM_FILE, {"format": FORMAT, "name": model.name, "decoders": names})


def load_model(
    folder: str | Path,
    *,
    decoders: Sequence[type[DecoderConfig]] = (),
    device: torch.device | str = "cpu",
) -> Model:
    """Read a model folder, ready to answer: float32, eval mode.

    Args:
        folder: as `save_model` writes it.
        decoders: configuration classes of decoders that are not part of this package.
        device: where the weights go.

    Raises:
        ModelError: a file is missing or damaged, or weights and configuration do not match.
    """
    folder = model_folder(folder)
    head = _head(folder)
    router, tokenizer = load_writer(folder, device=device)
    known = (*decoders, *DECODERS)
    return Model(
        name=model_name(folder),
        router=router,
        tokenizer=tokenizer,
        decoders=tuple(
            load_decoder(place, _decoder_config(place, known), router.config.width, device=device)
            for place in (decoder_folder(folder, name) for name in head["decoders"])
        ),
    )


def load_writer(folder: str | Path, *, device: torch.device | str = "cpu") -> tuple[Router, RouterTokenizer]:
    """The router of a model folder and its words, without the decoders; errors as for `load_model`."""
    folder = model_folder(folder)
    router = load_router(folder / "router", device=device)
    extra = _extra_tokens(router.config)
    return router, RouterTokenizer.load(folder / "tokenizer", extra_tokens=extra)


def model_name(folder: str | Path) -> str:
    """What a model calls itself, else the name of its folder."""
    folder = model_folder(folder)
    return str(_head(folder).get("name") or folder.name)


def read_outline(
    folder: str | Path, *, decoders: Sequence[type[DecoderConfig]] = ()
) -> tuple[RouterConfig, RouterTokenizer, tuple[DecoderConfig, ...]]:
    """What a model folder is made of, without its weights; arguments and errors as for `load_model`."""
    folder = model_folder(folder)
    router = RouterConfig.from_json(load_json(folder / "router" / CONFIG_FILE))
    tokenizer = RouterTokenizer.load(folder / "tokenizer", extra_tokens=_extra_tokens(router))
    places = [decoder_folder(folder, name) for name in _head(folder)["decoders"]]
    return router, tokenizer, tuple(_decoder_config(place, (*decoders, *DECODERS)) for place in places)


def _head(folder: Path) -> dict[str, Any]:
    head = load_json(folder / SYSTEM_FILE)
    names = head.get("decoders")
    if head.get("format") != FORMAT or not isinstance(names, list) or not all(map(_is_name, names)):
        raise ModelError(
            f"{str(folder / SYSTEM_FILE)!r} needs format {FORMAT} and a list of decoder names, "
            f"got format {head.get('format')!r} and {names!r}"
        )
    return head


def _decoder_config(folder: Path, known: Sequence[type[DecoderConfig]]) -> DecoderConfig:
    data = load_json(folder / CONFIG_FILE)
    classes = {kind.__name__: kind for kind in reversed(known)}
    kind, fields = data.get("type"), data.get("config")
    if kind not in classes or not isinstance(fields, Mapping):
        raise ModelError(
            f"{str(folder / CONFIG_FILE)!r} is of type {kind!r}; known are {', '.join(sorted(classes))}; "
            f"pass others as load(..., decoders=[...])"
        )
    try:
        return classes[kind].from_json(fields).unpacked(folder)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{str(folder / CONFIG_FILE)!r} is not a {kind}: {error}") from error


def _extra_tokens(router: RouterConfig) -> list[str]:
    """Routing tokens beyond the built-in ones, in order of their ids."""
    special = router.token_ids.special
    return sorted((text for text in special if text not in SPECIAL_TOKENS), key=lambda text: special[text])


def check_outline(
    router: RouterConfig, tokenizer: RouterTokenizer, decoders: Sequence[DecoderConfig]
) -> None:
    """Refuse parts that do not fit together.

    Raises:
        ModelError: words, routing tokens or routes contradict each other.
    """
    names = [config.name for config in decoders]
    if len(set(names)) != len(names):
        raise ModelError(f"every decoder needs a name of its own, got {names}")
    _check_words(router, tokenizer)
    _check_routes(router, decoders)


def _check_words(router: RouterConfig, tokenizer: RouterTokenizer) -> None:
    ids, vocabulary = router.token_ids.special, router.llm_config().vocab_size
    if tokenizer.size > vocabulary:
        raise ModelError(f"the tokenizer has {tokenizer.size} ids, the router's vocabulary {vocabulary}")
    for text, index in ids.items():
        found = tokenizer.special_ids.get(text)
        if found != index:
            raise ModelError(
                f"special token {text!r} is {index} for the router and {found} for the tokenizer; "
                f"use the tokenizer that the router was trained with"
            )


def _check_routes(router: RouterConfig, configs: Sequence[DecoderConfig]) -> None:
    written = {token.text: token for token in router.tokens}
    routes = [(config, route) for config in configs for route in config.routes]
    owners: dict[str, DecoderConfig] = {}
    for config, route in routes:
        for wanted in (route.token, *route.takes):
            _check_kind(config, wanted)
            token = written.get(wanted.text)
            if token != wanted:
                raise ModelError(
                    f"decoder {config.name!r} answers {wanted}, but the router writes "
                    f"{token or 'no such token'}; give both the same routing tokens"
                )
        other = owners.setdefault(route.token.text, config)
        if other is not config:
            raise ModelError(
                f"decoders {other.name!r} and {config.name!r} both answer {route.token.text}; "
                f"leave the route out of one of them"
            )
    for config, route in routes:
        if route.after is not None:
            _check_order(config, route, {one.token.text: one for _, one in routes})


def _check_kind(config: DecoderConfig, token: RoutingToken) -> None:
    """The decoder takes links of the token's kind; from another one it would not know what is wanted."""
    if token.kind not in config.link_kinds:
        words = ": it has no text encoder and tokenizer to read words with" if token.kind == "text" else ""
        raise ModelError(
            f"decoder {config.name!r} cannot answer {token.text} of link kind {token.kind!r}{words}; "
            f"give the token one of the kinds that it takes: {', '.join(map(repr, config.link_kinds))}"
        )


def _check_order(config: DecoderConfig, route: Route, routes: Mapping[str, Route]) -> None:
    """The route that goes first exists, reads links of the same shape, and waits for nobody."""
    assert route.after is not None
    first = routes.get(route.after)
    if first is None or first.after is not None:
        raise ModelError(
            f"{route.token.text} of decoder {config.name!r} comes after {route.after}, which "
            f"{'no decoder answers' if first is None else 'itself comes after ' + str(first.after)}"
        )
    if first.token.num_links != route.token.num_links:
        raise ModelError(
            f"{route.token.text} has {route.token.num_links} links and comes after {route.after}, "
            f"which has {first.token.num_links}; both read the same ones"
        )


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None
