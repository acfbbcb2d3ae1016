"""A real router of the smallest useful size, and its tokenizer."""

from __future__ import annotations

import pytest
import torch

from superlink.router.config import RouterConfig
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.router.tokens import RoutingToken

# Small models on two busy cores take ten times as long with two threads as with one.
torch.set_num_threads(1)

TEXTS = [
    "Find every red circle and outline the blue star.",
    "Here they are: the largest of them, 3 hearts and 12 rings.",
]
ROUTES = (
    RoutingToken(text="[DET]", decoder="boxes", table="det", num_links=4),
    RoutingToken(text="[SEG]", decoder="masks", table="det", num_links=4),
    RoutingToken(text="[POSE]", decoder="pose", table="pose", num_links=2),
    RoutingToken(text="[GEN]", decoder="pictures", table="gen", num_links=7),
    RoutingToken(text="[GRD]", decoder="lisa", table="", num_links=1, kind="token"),
)


@pytest.fixture(scope="session")
def tokenizer() -> RouterTokenizer:
    return RouterTokenizer.train(TEXTS * 5, 400)


@pytest.fixture(scope="session")
def config(tokenizer: RouterTokenizer) -> RouterConfig:
    return RouterConfig(
        vision={
            "hidden_size": 16,
            "intermediate_size": 32,
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
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        },
        tokens=ROUTES,
        token_ids=tokenizer.token_ids,
    )


@pytest.fixture(scope="session")
def router(config: RouterConfig) -> Router:
    torch.manual_seed(0)
    router = Router(config).eval()
    # Bold enough that every word and every query matters.
    bold = [router.language.lm_head, router.language.get_input_embeddings()]
    for parameter in (parameter for module in bold for parameter in module.parameters()):
        torch.nn.init.normal_(parameter, std=0.5)
    for parameter in router.queries.parameters():
        torch.nn.init.normal_(parameter)
    return router
