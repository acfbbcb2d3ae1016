"""A real router and a real Grounding DINO at their smallest, with random weights.

Random weights never write a sensible reply, so tests force the ids of one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model
from superlink.agents.system import System
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.router.config import RouterConfig
from superlink.router.model import Router
from superlink.router.requests import GenerateOptions
from superlink.router.tokenizer import END, RouterTokenizer, answer_markup

TEXTS = ("Find every red circle and outline the blue star.", "Here they are: the largest of them.")


def decoder_config() -> GroundingDinoConfig:
    """Serves its best guesses, however poor they are."""
    return GroundingDinoConfig(
        backbone={
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "drop_path_rate": 0.0,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        d_model=16,
        norm_groups=4,
        num_queries=10,
        num_feature_levels=3,
        encoder_layers=1,
        encoder_heads=2,
        encoder_ffn_dim=16,
        encoder_points=2,
        decoder_layers=1,
        decoder_heads=2,
        decoder_ffn_dim=16,
        decoder_points=2,
        mask_dim=8,
        shortest=64,
        longest=64,
        square=True,
        threshold=0.0,
        grounding_threshold=0.0,
        max_detections=4,
        merge_iou=None,
    )


def router_config(tokenizer: RouterTokenizer) -> RouterConfig:
    return RouterConfig(
        vision={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        llm={
            "vocab_size": tokenizer.size,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        },
        tokens=tuple(route.token for route in decoder_config().routes),
        token_ids=tokenizer.token_ids,
        tiling="square",
    )


@cache
def tokenizer() -> RouterTokenizer:
    return RouterTokenizer.train(TEXTS * 5, 400)


def build_model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    router = Router(router_config(tokenizer())).eval()
    decoder = decoder_config().build(router.config.width).eval()
    return Model(name="test", router=router, tokenizer=tokenizer(), decoders=(decoder,))


def reply_ids(*texts: str) -> tuple[int, ...]:
    """The ids of a reply, as a trained router would write them."""
    words = tokenizer()
    ids = [index for text in texts for index in words.encode(text, markup=answer_markup())]
    return (*ids, words.id_of(END))


def saying(model: Model, text: str) -> System:
    """A system whose router writes `text` whatever it is asked."""
    options = replace(GenerateOptions(), forced=reply_ids(text))
    return System(LocalEngine(model), name=model.name, options=options)


def scene(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
