"""Where a run's modules come from, and how they are written for serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from superlink.agents.model_folder import Model, check_outline, load_model, read_outline, save_model
from superlink.decoders.contract import Decoder, DecoderConfig
from superlink.decoders.diffusion import DiffusionConfig
from superlink.router.checkpoint import Precision
from superlink.router.config import RouterConfig, Tiling
from superlink.router.errors import InputError
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.train.module import JointModule, LearnsPictures

# How painters' autoencoders begin: as they are built; or to learn pictures from nothing, each its "own",
# or all of them "one" under the first painter's name, of which a model folder holds a copy for each.
Autoencoders = Literal["built", "own", "one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshSystem:
    """Random weights; the same ones for the same `TrainConfig.seed`."""

    name: str
    router: RouterConfig
    decoders: tuple[DecoderConfig, ...]
    tokenizer: RouterTokenizer
    dtype: Precision = "fp32"  # of exported weights
    autoencoders: Autoencoders = "built"

    def build(self) -> JointModule:
        """Raises ModelError where routes, tokens and words do not go together: now, not when the run ends."""
        check_outline(self.router, self.tokenizer, self.decoders)
        router = Router(self.router)
        decoders = [config.build(self.router.width) for config in self.decoders]
        if self.autoencoders != "built":
            begin_autoencoders(decoders, shared=self.autoencoders == "one")
        return JointModule(router=router, decoders=decoders, tokenizer=self.tokenizer)

    def export(self, module: JointModule, folder: Path) -> None:
        export(module, folder, name=self.name, dtype=self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSystem:
    """The weights of a model folder; decoders of `also` are added with random weights.

    Its router writes their tokens already; one that does not is for `GrownSystem`.
    """

    folder: Path
    also: tuple[DecoderConfig, ...] = ()
    known: tuple[type[DecoderConfig], ...] = ()  # configuration classes of decoders from elsewhere
    name: str = ""  # of the exported model; "" = as it was
    dtype: Precision = "fp32"
    tiling: Tiling | None = None  # of pictures while it trains; None = as it is served

    def build(self) -> JointModule:
        """Raises ModelError where the folder and decoders of `also` do not go together."""
        model = load_model(self.folder, decoders=self.known)
        check_outline(
            model.router.config, model.tokenizer, [*(one.config for one in model.decoders), *self.also]
        )
        if self.tiling is not None:
            model.router.config = replace(model.router.config, tiling=self.tiling)
        fresh = [config.build(model.router.config.width) for config in self.also]
        return JointModule(router=model.router, decoders=[*model.decoders, *fresh], tokenizer=model.tokenizer)

    def export(self, module: JointModule, folder: Path) -> None:
        if self.tiling is not None:
            served = read_outline(self.folder, decoders=self.known)[0].tiling
            module.router.config = replace(module.router.config, tiling=served)
        export(module, folder, name=self.name or self.folder.name, dtype=self.dtype)


def begin_autoencoders(decoders: Sequence[Decoder[Any, Any]], *, shared: bool) -> None:
    """Fresh autoencoders for all painters, which a stage with `lesson="pictures"` then teaches.

    Args:
        shared: the others have the first one's, whose parameters are found under the first one's name.

    Raises:
        InputError: nobody paints, or autoencoders to be shared differ in their options.
    """
    painters = [one for one in decoders if isinstance(one, LearnsPictures)]
    options = [one.config.vae for one in decoders if isinstance(one.config, DiffusionConfig)]
    if not painters or (shared and any(other != options[0] for other in options)):
        raise InputError(
            f"autoencoders that learn need painters{', all with the same `vae`' if shared else ''}; "
            f"decoders are {', '.join(one.config.name for one in decoders) or 'none'}"
        )
    for painter in painters:
        if shared and painter is not painters[0]:
            painter.vae = painters[0].vae
        else:
            painter.begin()


def export(module: JointModule, folder: Path, *, name: str, dtype: Precision) -> None:
    """Write a model folder that `superlink.load` takes; adapters must be merged before."""
    decoders = tuple(module.decoder(key) for key in module.decoders)
    model = Model(name=name, router=module.router, tokenizer=module.tokenizer, decoders=decoders)
    save_model(folder, model, dtype=dtype)
