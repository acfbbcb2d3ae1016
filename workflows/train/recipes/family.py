"""The family: every other decoder and task, on top of a model that detects; or further from a whole family.

One run goes on from a model folder. What is new begins with what is learned already where it can: UniPose
as the detector, the editor as the painter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import read_outline
from superlink.decoders.contract import DecoderConfig
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.router.errors import InputError
from superlink.workflows.data.shapes_samples import ShapesMix
from superlink.workflows.train.config import Average, ParamGroup, Stage, SystemSource, TrainConfig
from superlink.workflows.train.growing import GrownSystem
from superlink.workflows.train.recipes.decoders import family_decoders, smoke_decoders, tiny_detector
from superlink.workflows.train.recipes.sources import (
    GLANCING_ALL,
    PAINTED,
    PAINTING,
    SEEING_ALL,
    SPEAKING_ALL,
    edits,
    glances,
    held_out,
    paintings,
    tasks,
    words,
)
from superlink.workflows.train.systems import SavedSystem

LAYERS = 10  # of the language model: six of a `tiny` that detects did not fit even the sentences of training
PAINTER, EDITOR = "decoders.stable_diffusion", "decoders.instruct_pix2pix"
# UniPose is a detector first: what it begins with.
AS_DETECTOR = {
    "decoders.unipose.model.base": "decoders.grounding_dino.model",
    "decoders.unipose.model.class_embed": "decoders.grounding_dino.class_embed",
    "decoders.unipose.model.bbox_embed": "decoders.grounding_dino.bbox_embed",
    "decoders.unipose.patch2query": "decoders.grounding_dino.patch2query",
    "decoders.unipose.patch2keypoint": "decoders.grounding_dino.patch2query",
}
# Of the detector's backbone, the router's eyes are all but the last stage: squares of 16 pixels.
_STAGES = 3
_PATCH = 16  # pixels
AS_BACKBONE = {
    f"router.vision_tower.bit.{part}": f"decoders.grounding_dino.model.pyramid.backbone.bit.{part}"
    for part in ("embedder", *(f"encoder.stages.{stage}" for stage in range(_STAGES)))
}
# All but the last layer, which has nothing to say at first: an editor from its source begins by copying it.
AS_PAINTER = {
    f"{EDITOR}.{part}": f"{PAINTER}.{part}"
    for part in (
        *(f"unet.{layers}" for layers in ("conv_in", "time_embedding", "down_blocks", "mid_block")),
        *("unet.up_blocks", "unet.conv_norm_out", "mapper", "no_words"),
    )
}
# What learns to answer: the tower keeps what the names of things have taught it, and costs no backward pass.
SPEAKING = (
    "router.llm.*",
    "router.queries.*",
    "router.bridge.*",
    "router.places.*",
    "router.region_encoder.*",
)
# Stages of what a whole family has: other eyes, a small detector of people, an autoencoder, a first painter.
BEGINNINGS = frozenset({"patches", "keypoints-128", "latents", "one-thing"})
# Parts of UniPose that have learned when its own stages begin.
LEARNED = tuple(
    f"decoders.{name}.{part}.*"
    for name, base in (("grounding_dino", "model"), ("unipose", "model.base"))
    for part in ("patch2query", f"{base}.pyramid")
)


def shapes_family(start: str | Path = "tiny") -> TrainConfig:
    """Every decoder and task of the embedded family, on top of a model that detects or of a whole family.

    The router first: words of all tasks, then the names of what its visual tokens show, then answers in
    words about pictures, so that links hold still for what reads them. Then each new decoder alone, on
    links as they are; painters' autoencoder before their networks, one thing before several, and edits from
    the network that paints. At last everything at once, with a running average of the networks that paint.

    A model that has all of these decoders goes through the same stages, but for those that only begin things.

    Args:
        start: an embedded model by its name, or a model folder, with a detector.
    """
    stages = (*_router_stages(), *_perception_stages(), *_painter_stages(), *_joint_stages())
    system: SystemSource
    if is_family(start):
        system = SavedSystem(folder=model_folder(start).absolute(), name="tiny", dtype="fp16")
        stages = tuple(replace(stage, begins_as={}) for stage in stages if stage.name not in BEGINNINGS)
    else:
        system = family_system(start, family_decoders)
    return TrainConfig(
        name="shapes-family",
        system=system,
        stages=stages,
        global_batch=32,
        micro_batch=8,
        betas=(0.9, 0.98),
        workers=2,
        groups=(
            ParamGroup(glob="router.llm.*layers*", lr=0.7, muon=True),
            ParamGroup(glob="router.*", lr=0.7),
            # All of UniPose by Muon: benchmarks/LOG.md, entry 94. The detector's own parts were not tried.
            *(ParamGroup(glob=glob, muon="unipose" in glob) for glob in LEARNED),
            ParamGroup(glob="decoders.unipose.*", lr=2.0, muon=True),
            ParamGroup(glob="decoders.sam.*", lr=1.2, muon=True),
            *(ParamGroup(glob=f"{name}.unet.*", lr=2.0, muon=True) for name in (PAINTER, EDITOR)),
            ParamGroup(glob="decoders.*", lr=2.0),
        ),
        autocast=True,
        clip=1.0,
        average=Average(globs=(f"{PAINTER}.unet.*", f"{EDITOR}.unet.*"), decay=0.9995),
        # Sums over many terms, which would drown the language loss in what all share.
        loss_weights={
            "grounding_dino": 0.1,
            "unipose": 0.1,
            "sam": 0.1,
            "link_words": 0.3,
            "patch_words": 0.3,
        },
        validation=(held_out(224, mix=SEEING_ALL), held_out(PAINTED, 0.4, mix=PAINTING)),
        validation_samples=64,
        log_every=20,
        eval_every=500,
        checkpoint_every=200,
    )


def is_family(start: str | Path) -> bool:
    """Whether a model has every decoder of the family already.

    Raises:
        ModelError: no such model.
    """
    _, _, saved = read_outline(model_folder(start).absolute())
    wanted = {config.name for config in family_decoders(tiny_detector())}
    return wanted <= {config.name for config in saved}


# Hours of a stage: of two cores with nothing else to do, 10 in all. "words" was measured; the others
# come from seconds of one core a step, taken from a few passes while a training had both cores, those of
# "answers", "edits" and "together" before the language model had ten layers and rows were sorted.


def _router_stages() -> tuple[Stage, ...]:
    """Words of all tasks; then pictures, which the router alone looks at: what is where, and answers."""
    spoken = words(mix=SPEAKING_ALL)
    return (
        # 4.2 s: 1.5 hours.
        Stage(
            name="words", steps=2500, mixture=(spoken,), lr=1.5e-3, warmup=100, floor=0.1, global_batch=128,
            micro_batch=8, lesson="words", trainable=("router.llm.*", "router.queries.*"),
        ),
        # 2.1 s: 0.3 hours.
        Stage(
            name="patches", steps=1000, mixture=(glances(224),), lr=1.5e-3, warmup=100, floor=0.05,
            global_batch=64, micro_batch=32, lesson="patches", begins_as=AS_BACKBONE,
            trainable=("router.vision_tower.*", "router.bridge.*", "router.places.*"),
        ),
        # 2.9 s: 1.2 hours.
        Stage(
            name="answers", steps=3000, mixture=(glances(224, 3.0, mix=GLANCING_ALL), spoken), lr=1e-3,
            warmup=100, floor=0.1, global_batch=48, micro_batch=8, trainable=SPEAKING,
        ),
    )  # fmt: skip


def _perception_stages() -> tuple[Stage, ...]:
    """Segment Anything, with prompts drawn from masks, which needs no detector; then keypoints.

    UniPose begins as the detector, so its backbone needs no lesson of its own; it sees small pictures first.
    """
    pointed = replace(ShapesMix.only("segment"), interactive=0.5, open_share=0.0)
    people = ShapesMix.only("pose")
    pose = ("decoders.unipose.*", "router.queries.pose.*")
    return (
        # 1.0 s: 0.5 hours.
        Stage(
            name="masks", steps=1700, mixture=(tasks(224, mix=pointed, name="masks"),), lr=5e-4,
            warmup=50, floor=0.03, global_batch=4, trainable=("decoders.sam.*",),
        ),
        # Many small steps: batches of 32 pictures needed as many of them. 1.8 s: 0.15 hours.
        Stage(
            name="keypoints-128", steps=600, mixture=(tasks(128, mix=people, name="people-128", least=0.2),),
            lr=5e-4, warmup=60, floor=0.4, image_side=128, global_batch=16, trainable=pose,
            begins_as=AS_DETECTOR,
        ),
        # 1.8 s: 1.3 hours.
        Stage(
            name="keypoints-224", steps=2500, mixture=(tasks(224, mix=people, name="people-224"),), lr=4e-4,
            warmup=40, floor=0.02, global_batch=8, trainable=pose,
        ),
    )  # fmt: skip


def _painter_stages() -> tuple[Stage, ...]:
    """The autoencoder that both painters share, then one thing, several things, and edits."""
    painter = (f"{PAINTER}.unet.*", f"{PAINTER}.mapper.*", f"{PAINTER}.no_words", "router.queries.gen.*")
    editor = (f"{EDITOR}.unet.*", f"{EDITOR}.mapper.*", f"{EDITOR}.no_words", "router.queries.edit.*")
    return (
        # The encoder begins as a cosine transform and stays it. 0.9 s: 0.4 hours.
        Stage(
            name="latents", steps=1700, mixture=(edits(2.0), paintings()), lr=1e-3, warmup=50, floor=0.02,
            global_batch=8, lesson="pictures",
            trainable=(f"{PAINTER}.vae.decoder.*", f"{PAINTER}.vae.post_quant_conv.*"),
        ),
        # 4.3 s, with four noise levels of every picture: 0.9 hours.
        Stage(
            name="one-thing", steps=1500, mixture=(paintings(single=True),), lr=7e-4, warmup=200, floor=0.5,
            micro_batch=16, trainable=painter,
        ),
        # 4.3 s: 1.2 hours.
        Stage(
            name="paintings", steps=2000, mixture=(paintings(),), lr=7e-4, warmup=50, floor=0.05,
            micro_batch=16, trainable=painter,
        ),
        # 4.7 s: 1.3 hours.
        Stage(
            name="edits", steps=2000, mixture=(edits(),), lr=7e-4, warmup=100, floor=0.05, micro_batch=16,
            trainable=editor, begins_as=AS_PAINTER,
        ),
    )  # fmt: skip


def _joint_stages() -> tuple[Stage, ...]:
    """Every task in every step."""
    mixture = (
        tasks(224, mix=SEEING_ALL, name="all-224"),
        paintings(0.8),
        edits(0.8),
        glances(224, 2.0, mix=GLANCING_ALL),
        words(1.5, mix=SPEAKING_ALL),
    )
    # 4.2 s: 1.8 hours.
    return (
        Stage(
            name="together", steps=3000, mixture=mixture, lr=3e-4, warmup=50, floor=0.02,
            trainable=(*SPEAKING, "decoders.*"),
        ),
    )  # fmt: skip


def shapes_family_smoke(start: str | Path = "tiny") -> TrainConfig:
    """`shapes-family` in about a minute: every stage, a few steps each, new decoders as small as can be."""
    family = shapes_family(start)
    stages = tuple(
        replace(stage, steps=2, warmup=1, global_batch=4, micro_batch=None) for stage in family.stages
    )
    return replace(
        family,
        name="shapes-family-smoke",
        system=family.system if is_family(start) else family_system(start, smoke_decoders),
        stages=stages,
        validation_samples=4,
        log_every=2,
        eval_every=10,
        checkpoint_every=10,
    )


def eyes(detector: GroundingDinoConfig, side: int) -> dict[str, Any]:
    """The vision tower of a router that begins with the backbone of this detector.

    Args:
        side: of a tile, in pixels; rounded up to whole visual tokens of 2 x 2 patches.

    Raises:
        InputError: the backbone is of another kind than that of the recipe's detector, or too short.
    """
    backbone = dict(detector.backbone)
    if backbone["model_type"] != "bit" or len(backbone.get("depths", ())) < _STAGES:
        raise InputError(
            f"the family's eyes begin as a detector's backbone of type 'bit' with {_STAGES} stages or more; "
            f"this one is of type {backbone['model_type']!r} with depths {backbone.get('depths')}"
        )
    return {
        **backbone,
        "depths": backbone["depths"][:_STAGES],
        "hidden_sizes": backbone["hidden_sizes"][:_STAGES],
        "out_features": [f"stage{_STAGES}"],
        "image_size": math.ceil(side / (2 * _PATCH)) * 2 * _PATCH,
        "patch_size": _PATCH,
    }


def family_system(
    start: str | Path, decoders: Callable[[GroundingDinoConfig], tuple[DecoderConfig, ...]]
) -> GrownSystem:
    """The model to start from, within a system of decoders that are made for its detector.

    Raises:
        ModelError: no such model.
        InputError: it has no Grounding DINO, or one whose backbone cannot be the router's eyes.
    """
    folder = model_folder(start).absolute()  # workers may stand in another folder
    router, _, saved = read_outline(folder)
    detectors = [config for config in saved if isinstance(config, GroundingDinoConfig)]
    if not detectors:
        raise InputError(
            f"the family grows from a model with a Grounding DINO; {str(start)!r} has "
            f"{', '.join(config.name for config in saved) or 'no decoder'}"
        )
    return GrownSystem(
        folder=folder,
        decoders=decoders(detectors[0]),
        layers=LAYERS,
        vision=eyes(detectors[0], router.image_size),
        name="tiny",
        dtype="fp16",
        autoencoders="one",
    )
