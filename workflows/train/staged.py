"""The stages in which VisionLLM v2 was trained, on the user's own data and from a saved model.

Each is a function that returns a whole run, with the published numbers for models of that size and small
ones for models like `tiny`. Source: Wu et al. 2024, "VisionLLM v2", table A12. Two differences: the published
optimiser slows the mappers of painters too, by a clash of names; and small painters get a running average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import read_outline
from superlink.decoders.contract import DecoderConfig
from superlink.decoders.diffusion import InstructPix2PixConfig, StableDiffusionConfig
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.decoders.unipose import UniPoseConfig
from superlink.router.config import RouterConfig
from superlink.router.errors import InputError
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.train.config import Average, Lora, ParamGroup, Source, Stage, TrainConfig
from superlink.workflows.train.systems import SavedSystem

Scale = Literal["visionllm-v2-7b", "tiny"]
WIDE = 1024  # routers of at least this width are trained with the published numbers

WARMUP = 0.03  # of all steps
BRIDGE = ("router.bridge.*", "router.region_encoder.*")
DETECTORS = (GroundingDinoConfig, UniPoseConfig)
# Pretrained or delicate parts of a large detector learn at a tenth of the rate.
SLOW = ("*backbone*", "*sampling_offsets*", "*reference_points*")
# At full weight the sums of a small detector's losses drown the language loss in what both share.
SMALL_LOSS_WEIGHT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The model that a run starts from."""

    system: SavedSystem
    router: RouterConfig
    tokenizer: RouterTokenizer
    decoders: tuple[DecoderConfig, ...]

    @classmethod
    def of(cls, model: str | Path, *, name: str = "") -> Start:
        """An embedded model by its name, or a model folder.

        Args:
            name: of the model that comes out; "" = as it was.

        Raises:
            ModelError: no such model, or a damaged one.
        """
        folder = model_folder(model).absolute()  # workers may stand in another folder
        router, tokenizer, decoders = read_outline(folder)
        system = SavedSystem(folder=folder, name=name)
        return cls(system=system, router=router, tokenizer=tokenizer, decoders=decoders)

    @property
    def answered(self) -> tuple[str, ...]:
        """Texts of the routing tokens that its decoders answer."""
        return tuple(route.token.text for config in self.decoders for route in config.routes)

    @property
    def most_keypoints(self) -> int:
        """Keypoints that one call may ask for."""
        limits = [config.max_keypoints for config in self.decoders if isinstance(config, UniPoseConfig)]
        return min(limits, default=68)

    @property
    def scale(self) -> Scale:
        """Which numbers fit the model."""
        return "visionllm-v2-7b" if self.router.width >= WIDE else "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What differs between scales."""

    lr: float  # of what learns fastest
    batch: int  # samples of a step
    micro: int  # samples of one pass; costs memory, changes nothing else
    epochs: int
    router_lr: float = 1.0  # of language model, bridge and region encoder, times `lr`


PUBLISHED: Mapping[str, Numbers] = {
    "align": Numbers(lr=1e-3, batch=2048, micro=2, epochs=1),
    "tune": Numbers(lr=2.5e-5, batch=1024, micro=2, epochs=1),
    "multi-capacity": Numbers(lr=1e-4, batch=256, micro=2, epochs=1, router_lr=0.1),
    "decoder-only": Numbers(lr=1e-4, batch=256, micro=2, epochs=12),
    # Not of the paper: the published system's own example of training on.
    "finetune": Numbers(lr=2e-5, batch=16, micro=2, epochs=1),
}
SMALL: Mapping[str, Numbers] = {
    "align": Numbers(lr=1e-3, batch=16, micro=8, epochs=3),
    "tune": Numbers(lr=2e-4, batch=16, micro=8, epochs=3),
    "multi-capacity": Numbers(lr=4e-4, batch=16, micro=8, epochs=5, router_lr=0.5),
    "decoder-only": Numbers(lr=4e-4, batch=16, micro=8, epochs=12),
    "finetune": Numbers(lr=2e-4, batch=16, micro=8, epochs=5, router_lr=0.5),
}


def align(start: Start, data: Sequence[Source], *, samples: int, scale: Scale | None = None) -> TrainConfig:
    """Bridge and region encoder learn to show pictures to a language model that stays as it is.

    Args:
        start: the model.
        data: captions and conversations about pictures.
        samples: of one epoch.
        scale: whose numbers; None = by the width of the router.
    """
    # The published stage shows each picture as one tile.
    start = replace(start, system=replace(start.system, tiling="square"))
    return _run("align", start, data, samples, scale, trainable=_bridge(start))


def tune(start: Start, data: Sequence[Source], *, samples: int, scale: Scale | None = None) -> TrainConfig:
    """Language model, bridge and region encoder learn instructions, in full; arguments as for `align`."""
    return _run("tune", start, data, samples, scale, trainable=("router.llm.*", *_bridge(start)))


def multi_capacity(
    start: Start, data: Sequence[Source], *, samples: int, scale: Scale | None = None
) -> TrainConfig:
    """All decoders at once with low-rank adapters in the language model; arguments as for `align`.

    Embeddings, head, link queries and region encoder learn in full; the bridge stays.
    """
    trainable = (*_words(start.router), *_regions(start.router), "router.queries.*", *_decoders(start))
    return _run("multi-capacity", start, data, samples, scale, trainable=trainable, lora=Lora())


def decoder_only(
    start: Start, data: Sequence[Source], *, samples: int, scale: Scale | None = None
) -> TrainConfig:
    """Decoders and link queries, on a router that writes well already; arguments as for `align`."""
    trainable = ("router.queries.*", *_decoders(start))
    return _run("decoder-only", start, data, samples, scale, trainable=trainable)


def finetune(
    start: Start,
    data: Sequence[Source],
    *,
    samples: int,
    scale: Scale | None = None,
    lora: Lora | None = None,
) -> TrainConfig:
    """Everything that was ever trained, a little further; arguments as for `align`.

    Args:
        lora: adapters in the language model, in place of all of its weights.
    """
    words = _words(start.router) if lora is not None else ("router.llm.*",)
    trainable = (*words, *_bridge(start), "router.queries.*", *_decoders(start))
    if not start.router.freeze_vision:
        trainable = ("router.vision_tower.*", *trainable)
    return _run("finetune", start, data, samples, scale, trainable=trainable, lora=lora)


STAGED: dict[str, Callable[..., TrainConfig]] = {
    "finetune": finetune,
    "align": align,
    "tune": tune,
    "multi-capacity": multi_capacity,
    "decoder-only": decoder_only,
}
# Stages of whole trainings, each from the model of the one before, by the scale whose numbers they take.
SERIES: Mapping[Scale, tuple[str, ...]] = {
    "visionllm-v2-7b": ("align", "tune", "multi-capacity", "decoder-only")
}


def numbers_of(name: str, start: Start, scale: Scale | None = None) -> Numbers:
    """The numbers of a recipe for a model."""
    return (SMALL if (scale or start.scale) == "tiny" else PUBLISHED)[name]


def steps_of(epochs: float, samples: int, batch: int) -> int:
    """Steps in which every one of `samples` is seen `epochs` times; at least one."""
    return max(1, math.ceil(round(epochs * samples / batch, 6)))  # .7 x 10 is more than 7 for a float


def warmup_of(steps: int) -> int:
    """Steps of warm-up of a whole run of so many."""
    return math.ceil(WARMUP * steps)


def _run(
    name: str,
    start: Start,
    data: Sequence[Source],
    samples: int,
    scale: Scale | None,
    *,
    trainable: tuple[str, ...],
    lora: Lora | None = None,
) -> TrainConfig:
    if samples < 1 or not data:
        raise InputError(f"recipe {name!r} needs data, got {len(data)} sources with {samples} samples")
    small = (scale or start.scale) == "tiny"
    numbers = numbers_of(name, start, scale)
    batch = numbers.batch
    steps = steps_of(numbers.epochs, samples, batch)
    stage = Stage(
        name=name,
        steps=steps,
        mixture=tuple(data),
        lr=numbers.lr,
        warmup=warmup_of(steps),
        floor=0.0,
        trainable=trainable,
    )
    return TrainConfig(
        name=name,
        system=start.system,
        stages=(stage,),
        global_batch=batch,
        micro_batch=numbers.micro,
        autocast=not small,
        groups=_groups(start, numbers.router_lr, slow=() if small else SLOW),
        weight_decay=0.0,
        lora=lora,
        average=_average(start, trainable) if small else None,
        loss_weights={one.name: SMALL_LOSS_WEIGHT for one in _detectors(start)} if small else {},
        eval_every=0,
    )


def _bridge(start: Start) -> tuple[str, ...]:
    return BRIDGE if start.router.region_encoder else BRIDGE[:1]


def _regions(router: RouterConfig) -> tuple[str, ...]:
    return BRIDGE[1:] if router.region_encoder else ()


def _words(router: RouterConfig) -> tuple[str, ...]:
    """Embeddings and head of the language model; one matrix where they are tied."""
    tied = router.llm_config().tie_word_embeddings
    embeddings = "router.llm.model.embed_tokens.*"
    return (embeddings,) if tied else (embeddings, "router.llm.lm_head.*")


def _decoders(start: Start) -> tuple[str, ...]:
    """Weights of decoders that learn; of painters the networks that are given stay as they are."""
    globs: list[str] = []
    for config in start.decoders:
        if isinstance(config, StableDiffusionConfig | InstructPix2PixConfig):
            globs.append(f"decoders.{config.name}.mapper.*")
            globs += [f"decoders.{config.name}.unet.*"] if config.train_unet else []
            globs += [f"decoders.{config.name}.no_words"] if config.text_encoder is None else []
        else:
            globs.append(f"decoders.{config.name}.*")
    return tuple(globs)


def _detectors(start: Start) -> list[DecoderConfig]:
    return [config for config in start.decoders if isinstance(config, DETECTORS)]


def _groups(start: Start, router_lr: float, *, slow: Sequence[str]) -> tuple[ParamGroup, ...]:
    groups = [ParamGroup(glob="router.llm.*", lr=router_lr)]
    groups += [ParamGroup(glob=glob, lr=router_lr) for glob in _bridge(start)]
    if not start.router.freeze_vision:
        groups.append(ParamGroup(glob="router.vision_tower.*", lr=router_lr))
    for config in _detectors(start):
        groups += [ParamGroup(glob=f"decoders.{config.name}.{part}", lr=0.1) for part in slow]
    return tuple(groups)


def _average(start: Start, trainable: Sequence[str]) -> Average | None:
    """Of the networks that paint."""
    names = {f"decoders.{config.name}.unet.*" for config in start.decoders}
    painted = tuple(glob for glob in trainable if glob in names)
    return Average(globs=painted) if painted else None
