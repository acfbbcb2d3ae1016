"""A model folder as the start of a larger system: more decoders, and a router that writes their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from superlink.agents.model_folder import load_model
from superlink.decoders.contract import Decoder, DecoderConfig
from superlink.decoders.diffusion import DiffusionConfig
from superlink.router.checkpoint import Precision
from superlink.router.errors import InputError, ModelError
from superlink.router.keymap import load_strictly
from superlink.router.model import Router
from superlink.router.places import Places
from superlink.router.tokens import RoutingToken
from superlink.workflows.train.module import JointModule
from superlink.workflows.train.systems import Autoencoders, begin_autoencoders, export


@dataclass(frozen=True, slots=True, kw_only=True)
class GrownSystem:
    """The weights of a model folder, within a system of more decoders.

    A decoder that the folder has under the same name keeps its weights, all that its configuration here
    has a place for: a detector may lose its mask branch to another decoder. The others begin with random
    weights, and so do the query tables of routing tokens that the router did not write before.
    """

    folder: Path
    decoders: tuple[DecoderConfig, ...]  # all of them, with the routes that they are to have
    known: tuple[type[DecoderConfig], ...] = ()  # configuration classes of decoders from elsewhere
    layers: int = 0  # of the router's language model; 0 = as many as it has. New ones change nothing at first
    # Another vision tower, as `RouterConfig.vision` describes it, with 2 x 2 patches as one visual token. It
    # begins with random weights, and so do the bridge and the region encoder. None = the folder's own.
    vision: Mapping[str, Any] | None = None
    name: str = ""  # of the exported model; "" = as it was
    dtype: Precision = "fp32"  # of exported weights
    autoencoders: Autoencoders = "built"  # of painters, none of which the folder may have then

    def build(self) -> JointModule:
        """Raises ModelError or InputError where folder and configurations do not go together."""
        model = load_model(self.folder, decoders=self.known)
        own = {decoder.config.name: decoder for decoder in model.decoders}
        lost = sorted(own.keys() - {config.name for config in self.decoders})
        if lost:
            raise InputError(f"{model.name!r} has decoders that the larger system lacks: {', '.join(lost)}")
        width = model.router.config.width
        decoders = [_with_weights(config.build(width), own.get(config.name)) for config in self.decoders]
        if self.autoencoders != "built":
            painters = [one.config.name for one in own.values() if isinstance(one.config, DiffusionConfig)]
            if painters:
                raise InputError(
                    f"{model.name!r} has {', '.join(painters)} already, whose autoencoder has learned; "
                    f"only fresh painters begin with autoencoders={self.autoencoders!r}"
                )
            begin_autoencoders(decoders, shared=self.autoencoders == "one")
        if self.layers:
            deepen(model.router, self.layers)
        if self.vision is not None:
            model = replace(model, router=seeing(model.router, self.vision))
        routes = [route for config in self.decoders for route in config.routes]
        write_also(model.router, list(dict.fromkeys(route.token for route in routes)))
        # Whether routes, tokens and words go together is known now, not when the run ends.
        grown = replace(model, decoders=tuple(decoders))
        return JointModule(router=grown.router, decoders=grown.decoders, tokenizer=grown.tokenizer)

    def export(self, module: JointModule, folder: Path) -> None:
        export(module, folder, name=self.name or self.folder.name, dtype=self.dtype)


def deepen(router: Router, layers: int) -> None:
    """Give a router's language model more layers, evenly among the old ones; it writes what it wrote before.

    Each new layer begins as the one before it, but for its two output projections: they are 0, so it adds
    nothing until it has learned.

    Args:
        layers: all of them, those that it has included.

    Raises:
        InputError: it has more already.

    Source: Wu et al. 2024 (LLaMA Pro), section 3.2.
    """
    language = router.language
    old = list(language.model.layers)
    more = layers - len(old)
    if more < 0:
        raise InputError(f"the router has {len(old)} layers, which cannot become {layers}")
    config = replace(router.config, llm={**router.config.llm, "num_hidden_layers": layers})
    language.config.num_hidden_layers = layers
    followed = Counter(-(-(place + 1) * len(old) // more) - 1 for place in range(more))
    grown = nn.ModuleList()
    for index, layer in enumerate(old):
        layer.self_attn.layer_idx = len(grown)  # where it finds its keys and values
        grown.append(layer)
        for _ in range(followed[index]):
            fresh = LlamaDecoderLayer(language.config, len(grown)).to(layer.mlp.down_proj.weight)
            load_strictly(fresh, dict(layer.state_dict()), "a layer of the language model")
            for silent in (fresh.self_attn.o_proj, fresh.mlp.down_proj):
                nn.init.zeros_(silent.weight)
            grown.append(fresh)
    language.model.layers = grown
    router.config = config


def seeing(router: Router, vision: Mapping[str, Any]) -> Router:
    """A router with another vision tower, and with the words, links and layers of this one.

    Its visual tokens have the size of words and know their places.
    """
    fresh = Router(replace(router.config, vision=vision, vision_layer=-1, pixel_shuffle=True, places=True))
    words = router.language.get_input_embeddings()
    assert isinstance(fresh.places, Places)
    assert isinstance(words, nn.Embedding)
    fresh.places.begin(float(words.weight.detach().std()))
    for part in ("llm", "queries"):
        load_strictly(fresh.get_submodule(part), dict(router.get_submodule(part).state_dict()), f"the {part}")
    return fresh


def write_also(router: Router, tokens: Sequence[RoutingToken]) -> None:
    """Let a router write these routing tokens; query tables that it has stay exactly as they are.

    Args:
        tokens: all of them, those that it writes already included. They may have another decoder now.

    Raises:
        ModelError: one that it writes is missing, the vocabulary has no such token, or a table would
            change its length.
    """
    before, after = router.config, replace(router.config, tokens=tuple(tokens))
    missing = [token.text for token in before.tokens if token.text not in {one.text for one in tokens}]
    if missing:
        raise ModelError(
            f"the router writes {', '.join(missing)}, which nothing in the larger system answers; "
            f"give a decoder the route"
        )
    for table, length in before.tables.items():
        if after.tables.get(table) != length:
            raise ModelError(
                f"the router's table of queries {table!r} has {length} entries, "
                f"the larger system needs {after.tables.get(table, 0)}"
            )
    std = router.language.config.initializer_range
    for table, length in after.tables.items():
        if table not in router.queries:
            fresh = nn.Embedding(length, after.width)
            nn.init.normal_(fresh.weight, std=std)
            router.queries[table] = fresh
    router.config = after


def _with_weights(fresh: Decoder[Any, Any], old: Decoder[Any, Any] | None) -> Decoder[Any, Any]:
    if old is not None:
        wanted = fresh.state_dict().keys()
        kept = {name: tensor for name, tensor in old.state_dict().items() if name in wanted}
        load_strictly(fresh, kept, f"the saved decoder {old.config.name!r}")
    return fresh
