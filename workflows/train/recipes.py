"""Recipes: functions that return a whole run. `superlink train NAME` calls them.

A variant is a `dataclasses.replace` of one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from superlink.decoders.grounding_dino import GroundingDinoConfig, LossWeights
from superlink.router.config import RouterConfig, TokenIds
from superlink.router.tokenizer import END, START, RouterTokenizer
from superlink.router.tokens import PAD, SPECIAL_TOKENS
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import (
    ClassSamples,
    ShapesMix,
    ShapesSamples,
    TextSamples,
    corpus,
)
from superlink.workflows.train.config import ParamGroup, Source, Stage, TrainConfig
from superlink.workflows.train.systems import FreshSystem

# What `lesson="cells"` trains: everything between pixels and the class scores of cells.
BACKBONE = tuple(
    f"decoders.grounding_dino.{part}.*"
    for part in ("patch2query", "model.pyramid", "model.enc_output*", "model.encoder_output_class_embed")
)
ENDLESS = 1 << 40  # samples of a procedural source

# Pictures that decoders look at are dear: nearly all of them go to what only these teach.
SEEING = ShapesMix(
    detect=0.34,
    ground=0.19,
    segment=0.18,
    mixed=0.11,
    nothing=0.02,
    partial=0.05,
    chat=0.02,
    region=0.05,
    dialogue=0.04,
    open_share=0.02,
)

# With a picture in front the router talks as without one only where it has learned to.
GLANCING = ShapesMix(
    detect=0.14,
    ground=0.08,
    segment=0.12,
    mixed=0.14,
    nothing=0.09,
    partial=0.08,
    chat=0.17,
    region=0.05,
    dialogue=0.18,
    open_share=0.2,
)

# Long dialogues are few: a step costs as much as its longest rows.
SPEAKING = ShapesMix(mixed=0.13, nothing=0.09, partial=0.11, chat=0.22, dialogue=0.1, open_share=0.1)


def shapes_tiny() -> TrainConfig:
    """The embedded `tiny` family.

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


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "shapes-tiny": shapes_tiny,
    "shapes-smoke": shapes_smoke,
}


def words(weight: float = 1.0) -> Source:
    """Conversations without pictures."""
    opened = partial(TextSamples, ENDLESS, mix=SPEAKING)
    return Source(name="words", open=opened, weight=weight)


def pictures(side: int, weight: float = 1.0, *, mix: ShapesMix | None = None, least: float = 0.085) -> Source:
    """Conversations about scenes of `side` pixels, with things of at least `least` sides."""
    scenes = SceneConfig(height=side, width=side, min_size=least)
    opened = partial(ShapesSamples, ENDLESS, mix=mix or SEEING, scenes=scenes, masks=True)
    return Source(name=f"shapes-{side}", open=opened, weight=weight)


def glances(side: int, weight: float = 1.0, *, mix: ShapesMix | None = None) -> Source:
    """Conversations with a picture in front that only the router learns from: cheap beside `pictures`."""
    scenes = SceneConfig(height=side, width=side)
    opened = partial(ShapesSamples, ENDLESS, mix=mix or GLANCING, scenes=scenes, targets=False)
    return Source(name=f"glances-{side}", open=opened, weight=weight)


def classes(side: int, *, least: float = 0.085) -> Source:
    """Scenes of `side` pixels that are asked for every shape and colour."""
    scenes = SceneConfig(height=side, width=side, min_size=least)
    return Source(name=f"classes-{side}", open=partial(ClassSamples, ENDLESS, scenes=scenes))


def held_out(side: int) -> Source:
    """Scenes and wordings that no training source draws."""
    scenes = SceneConfig(height=side, width=side)
    return Source(name="held-out", open=partial(ShapesSamples, 100_000, split="heldout", scenes=scenes))


def tiny_detector() -> GroundingDinoConfig:
    """Grounding DINO for two CPU cores: a small ResNet with group norms, few queries, all cells of masks."""
    return GroundingDinoConfig(
        backbone={
            "model_type": "bit",
            "layer_type": "bottleneck",
            "embedding_size": 32,
            "depths": [2, 2, 3, 1],
            "hidden_sizes": [96, 192, 320, 448],
            "num_groups": 8,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        d_model=128,
        norm_groups=16,
        num_queries=40,
        num_feature_levels=3,
        encoder_layers=2,
        encoder_heads=4,
        encoder_ffn_dim=256,
        encoder_points=2,
        decoder_layers=3,
        decoder_heads=4,
        decoder_ffn_dim=256,
        decoder_points=4,
        dropout=0.0,
        fusion_droppath=0.0,
        mask_dim=48,
        mask_hidden=48,
        fusion_scale=0.1,
        class_prior=0.01,
        shortest=224,
        longest=224,
        square=True,
        num_points=None,
        encoder_masks=False,
        weights=LossWeights(ce=4.0, dense=2.0),
        dn_number=20,
        dn_groups=3,
        threshold=0.275,  # best F1 on 60 foreign pictures of another seed than the scores'
    )


def smoke_detector() -> GroundingDinoConfig:
    """`tiny_detector` with every part and few channels."""
    tiny = tiny_detector()
    small = {"embedding_size": 16, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 1, 1]}
    return replace(
        tiny,
        backbone={**tiny.backbone, **small},
        d_model=32,
        norm_groups=8,
        num_queries=12,
        mask_dim=16,
        mask_hidden=16,
    )


def shapes_system(
    name: str, *, vocabulary: int, router: dict[str, int], detector: GroundingDinoConfig
) -> FreshSystem:
    """A router with one square tile and its detector, with words learned from the shapes world.

    Args:
        vocabulary: ids of the tokenizer.
        router: width, layers and heads of the language model; vision_width and vision_layers.
    """
    tokenizer = shapes_tokenizer(vocabulary)
    decoders = (detector,)
    return FreshSystem(
        name=name,
        router=RouterConfig(
            vision={
                "hidden_size": router["vision_width"],
                "intermediate_size": 2 * router["vision_width"],
                "num_hidden_layers": router["vision_layers"],
                "num_attention_heads": max(1, router["vision_width"] // 32),
                "image_size": 224,
                "patch_size": 28,
            },
            llm={
                "vocab_size": tokenizer.size,
                "hidden_size": router["width"],
                "intermediate_size": 3 * router["width"],
                "num_hidden_layers": router["layers"],
                "num_attention_heads": router["heads"],
                "num_key_value_heads": router["heads"],
                "max_position_embeddings": 2048,
                "tie_word_embeddings": True,
            },
            tokens=tuple(route.token for decoder in decoders for route in decoder.routes),
            token_ids=TokenIds(
                pad=tokenizer.id_of(PAD),
                bos=tokenizer.id_of(START),
                eos=tokenizer.id_of(END),
                special={text: tokenizer.id_of(text) for text in SPECIAL_TOKENS},
            ),
            bridge="mlp2x_gelu",
            vision_layer=-1,
            tiling="square",
            max_tiles=1,
            freeze_vision=False,
            fold_case=True,
        ),
        decoders=decoders,
        tokenizer=tokenizer,
    )


def shapes_tokenizer(vocabulary: int, texts: Sequence[str] | None = None) -> RouterTokenizer:
    """Byte-level BPE of the shapes world's words; the same one on every machine."""
    return RouterTokenizer.train(corpus(20_000, fold_case=True) if texts is None else texts, vocabulary)
