"""The router of the recipes, with words learned from the shapes world."""

from __future__ import annotations

from collections.abc import Sequence

from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.router.config import RouterConfig, TokenIds
from superlink.router.tokenizer import END, START, RouterTokenizer
from superlink.router.tokens import PAD, SPECIAL_TOKENS
from superlink.workflows.data.shapes_samples import corpus
from superlink.workflows.train.systems import FreshSystem


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
