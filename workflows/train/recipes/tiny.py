"""The embedded `tiny` from nothing: a router and its detector."""

from __future__ import annotations

from dataclasses import replace

from superlink.workflows.train.config import ParamGroup, Stage, TrainConfig
from superlink.workflows.train.recipes.decoders import smoke_detector, tiny_detector
from superlink.workflows.train.recipes.router import shapes_system
from superlink.workflows.train.recipes.sources import classes, glances, held_out, pictures, words

# What `lesson="cells"` trains: everything between pixels and the class scores of cells.
BACKBONE = tuple(
    f"decoders.grounding_dino.{part}.*"
    for part in ("patch2query", "model.pyramid", "model.enc_output*", "model.encoder_output_class_embed")
)


def shapes_tiny() -> TrainConfig:
    """The embedded `tiny` from nothing: a router and its detector.

    Words alone, then the detector's backbone alone (it learns classes from links of those words), then
    everything at 128 pixels and at 224, at last with as many pictures as words; then words and everything
    once more.
    """
    return TrainConfig(
        name="shapes-tiny",
        system=shapes_system(
            "tiny",
            vocabulary=2048,
            router={"width": 192, "layers": 6, "heads": 6, "vision_width": 128, "vision_layers": 3},
            detector=tiny_detector(),
        ),
        stages=(
            Stage(
                name="words", steps=5200, mixture=(words(),), lr=2.1e-3, warmup=100, floor=0.2,
                global_batch=128, micro_batch=16, lesson="words",
                trainable=("router.llm.*", "router.queries.*"),
            ),
            Stage(
                name="classes-128", steps=1300, mixture=(classes(128, least=0.15), pictures(128, least=0.15)),
                lr=1e-3, warmup=50, floor=0.4, image_side=128, global_batch=32, lesson="cells",
                trainable=BACKBONE,
            ),
            Stage(
                name="classes-224", steps=250, mixture=(classes(224), pictures(224)), lr=4e-4, floor=0.1,
                global_batch=32, lesson="cells", trainable=BACKBONE,
            ),
            Stage(
                name="joint-128", steps=1200, mixture=(pictures(128, least=0.12), words(4.0)), lr=3e-4,
                warmup=50, floor=0.6, image_side=128,
            ),
            Stage(
                name="joint-224", steps=2700, mixture=(pictures(224), words(4.0)), lr=2.5e-4, warmup=20,
                floor=0.02,
            ),
            Stage(
                name="polish", steps=1450, mixture=(pictures(224), words()), lr=2e-4, warmup=20, floor=0.3,
                global_batch=16,
            ),
            Stage(
                name="words-again", steps=4600, mixture=(words(),), lr=1.5e-3, warmup=50, floor=0.1,
                global_batch=128, micro_batch=16, lesson="words",
                trainable=("router.llm.*", "router.queries.*"),
            ),
            Stage(
                name="together", steps=1750, mixture=(pictures(224), words(3.0)), lr=2e-4, warmup=50,
                floor=0.02, global_batch=32,
            ),
            Stage(
                name="polish-again", steps=500, mixture=(pictures(224), words(3.0)), lr=1.2e-4, warmup=10,
                floor=0.02, global_batch=32,
            ),
            Stage(
                name="long", steps=4300, mixture=(pictures(224), glances(224, 2.0), words(3.0)), lr=3e-4,
                warmup=50, floor=0.02, global_batch=48, micro_batch=12,
            ),
        ),
        global_batch=40,  # many small steps: classes are learned by the step more than by the picture
        micro_batch=8,
        betas=(0.9, 0.98),
        workers=2,
        # In joint stages the router knows its words and the backbone its classes; the rest is still raw.
        groups=(
            ParamGroup(glob="router.*", lr=0.7),
            *(ParamGroup(glob=glob) for glob in BACKBONE),
            ParamGroup(glob="decoders.*", lr=2.0),
        ),
        autocast=True,
        clip=1.0,
        # Losses of a detector are sums over layers and terms; at full weight they would drown the
        # language loss in the weights that both share.
        loss_weights={"grounding_dino": 0.1, "link_words": 0.3},
        validation=(held_out(224),),
        validation_samples=64,
        log_every=20,
        eval_every=500,
        checkpoint_every=200,
    )  # fmt: skip


def shapes_smoke() -> TrainConfig:
    """About a minute on a laptop: every stage of a real run, a few steps each. It learns next to nothing."""
    tiny = shapes_tiny()
    stages = tuple(
        replace(stage, steps=steps, warmup=2, global_batch=4)
        for stage, steps in zip(tiny.stages, (20, 4, 2, 8, 4, 2, 4, 2, 2, 2), strict=True)
    )
    return replace(
        tiny,
        name="shapes-smoke",
        system=shapes_system(
            "smoke",
            vocabulary=512,
            router={"width": 32, "layers": 2, "heads": 2, "vision_width": 32, "vision_layers": 3},
            detector=smoke_detector(),
        ),
        stages=stages,
        validation_samples=4,
        log_every=2,
        eval_every=10,
        checkpoint_every=10,
    )
