"""A model folder to grow from: a router and a detector with masks, at their smallest, with random weights."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from superlink.agents.engine import Engine
from superlink.agents.model_folder import Model, save_model
from superlink.decoders.contract import Call, Outcome
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.router.model import Router
from superlink.router.requests import Event, Request
from superlink.router.tokenizer import END, RouterTokenizer, answer_markup
from superlink.workflows.data.shapes_samples import corpus
from superlink.workflows.train.recipes import smoke_detector
from tests.agents.tiny_model import router_config

TINY = Path(__file__).parents[3] / "superlink" / "weights" / "tiny"  # the embedded model


@cache
def words() -> RouterTokenizer:
    return RouterTokenizer.train(list(corpus(300, fold_case=True)), 400)


def detector() -> GroundingDinoConfig:
    """Finds its best guesses, however poor they are."""
    return replace(
        smoke_detector(),
        encoder_layers=1,
        decoder_layers=2,
        num_queries=8,
        shortest=64,
        longest=64,
        threshold=0.0,
        grounding_threshold=0.0,
        max_detections=4,
        merge_iou=None,
        dn_number=4,
    )


def start_model() -> Model:
    torch.manual_seed(0)
    config = router_config(words())
    config = replace(
        config,
        llm={**config.llm, "max_position_embeddings": 2048, "tie_word_embeddings": True},
        tokens=tuple(route.token for route in detector().routes),
        freeze_vision=False,
    )
    finder = detector().build(config.width).eval()
    return Model(name="start", router=Router(config).eval(), tokenizer=words(), decoders=(finder,))


def start_folder(folder: Path) -> Path:
    """`folder`, with the model in it."""
    save_model(folder, start_model())
    return folder


def forced(text: str) -> tuple[int, ...]:
    """The ids of a reply; random weights never write a sensible one."""
    return (*words().encode(text, markup=answer_markup()), words().id_of(END))


class Saying:
    """An engine whose router writes the given replies, one after the other; its decoders are the model's."""

    def __init__(self, engine: Engine, replies: Sequence[str]) -> None:
        self.engine, self.replies = engine, list(replies)
        self.decoders = engine.decoders

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        ids = forced(self.replies.pop(0))
        yield from self.engine.stream(
            [replace(one, options=replace(one.options, forced=ids)) for one in requests]
        )

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        return self.engine.submit(decoder, calls)

    def close(self) -> None:
        self.engine.close()
