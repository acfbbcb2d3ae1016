"""Where a run's modules come from, and how they are written for serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from superlink.agents.model_folder import Model, load_model, read_outline, save_model
from superlink.decoders.contract import Decoder, DecoderConfig
from superlink.decoders.diffusion import DiffusionConfig
from superlink.router.checkpoint import Precision
from superlink.router.config import RouterConfig, Tiling
from superlink.router.errors import InputError
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.train.module import JointModule, LearnsPictures


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshSystem:
    """Random weights; the same ones for the same `TrainConfig.seed`."""

    name: str
    router: RouterConfig
    decoders: tuple[DecoderConfig, ...]
    tokenizer: RouterTokenizer
    dtype: Precision = "fp32"  # of exported weights
    one_autoencoder: bool = False  # painters learn one and all have it; a model folder holds a copy for each

    def build(self) -> JointModule:
        router = Router(self.router)
        decoders = [config.build(self.router.width) for config in self.decoders]
        if self.one_autoencoder:
            share_autoencoder(decoders)
        return JointModule(router=router, decoders=decoders, tokenizer=self.tokenizer)

    def export(self, module: JointModule, folder: Path) -> None:
        export(module, folder, name=self.name, dtype=self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSystem:
    """The weights of a model folder; decoders of `also` are added with random weights."""

    folder: Path
    also: tuple[DecoderConfig, ...] = ()
    known: tuple[type[DecoderConfig], ...] = ()  # configuration classes of decoders from elsewhere
    name: str = ""  # of the exported model; "" = as it was
    dtype: Precision = "fp32"
    tiling: Tiling | None = None  # of pictures while it trains; None = as it is served

    def build(self) -> JointModule:
        model = load_model(self.folder, decoders=self.known)
        if self.tiling is not None:
            model.router.config = replace(model.router.config, tiling=self.tiling)
        fresh = [config.build(model.router.config.width) for config in self.also]
        return JointModule(router=model.router, decoders=[*model.decoders, *fresh], tokenizer=model.tokenizer)

    def export(self, module: JointModule, folder: Path) -> None:
        if self.tiling is not None:
            served = read_outline(self.folder, decoders=self.known)[0].tiling
            module.router.config = replace(module.router.config, tiling=served)
        export(module, folder, name=self.name or self.folder.name, dtype=self.dtype)


def share_autoencoder(decoders: Sequence[Decoder[Any, Any]]) -> None:
    """Give all painters the autoencoder of the first, under whose name its parameters are found.

    Raises:
        InputError: there are fewer than two, or their autoencoders differ in their options.
    """
    painters = [
        (one.config, one)
        for one in decoders
        if isinstance(one, LearnsPictures) and isinstance(one.config, DiffusionConfig)
    ]
    if len(painters) < 2 or any(config.vae != painters[0][0].vae for config, _ in painters):
        names = [config.name for config, _ in painters]
        raise InputError(f"one autoencoder is for two or more painters with the same `vae`, got {names}")
    for _, painter in painters:
        painter.vae = painters[0][1].vae


def export(module: JointModule, folder: Path, *, name: str, dtype: Precision) -> None:
    """Write a model folder that `superlink.load` takes; adapters must be merged before."""
    decoders = tuple(module.decoder(key) for key in module.decoders)
    model = Model(name=name, router=module.router, tokenizer=module.tokenizer, decoders=decoders)
    save_model(folder, model, dtype=dtype)
