"""Every decoder at its smallest behind one router, with random weights: all six routing tokens.

Segment Anything outlines what the detector finds or what a person points out. Random weights never
write a sensible reply, so tests force one, or one for each round.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import torch

from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model
from superlink.agents.system import System
from superlink.decoders.contract import Call, DecoderConfig
from superlink.decoders.grounding_dino.config import perception_routes
from superlink.decoders.unipose import UniPoseConfig
from superlink.router.model import Router
from superlink.router.requests import Event, Request
from tests.agents.test_masks_of_boxes import sam_config
from tests.agents.tiny_model import decoder_config, reply_ids, router_config, tokenizer
from tests.decoders.diffusion.painters import small as painter
from tests.decoders.diffusion.painters import small_editor


def configs() -> tuple[DecoderConfig, ...]:
    detector = replace(decoder_config(), routes=perception_routes()[:2])
    backbone = detector.backbone | {"out_features": ["stage2", "stage3", "stage4"]}
    body = replace(detector, backbone=backbone, mask_dim=0, decoder_layers=2)
    poser = UniPoseConfig(
        detector=body, box_layers=1, num_instances=4, max_keypoints=5, keypoint_names=("nose", "left eye")
    )
    return detector, sam_config(), poser, painter(), small_editor()


def build_family() -> Model:
    torch.manual_seed(0)
    decoders = configs()
    tokens = tuple(route.token for config in decoders for route in config.routes)
    router = Router(replace(router_config(tokenizer()), tokens=tokens)).eval()
    return Model(
        name="family",
        router=router,
        tokenizer=tokenizer(),
        decoders=tuple(config.build(router.config.width).eval() for config in decoders),
    )


class Scripted:
    """An engine whose router writes one given reply after the other; it notes what it is asked."""

    def __init__(self, model: Model, *replies: str) -> None:
        self._engine = LocalEngine(model)
        self.decoders = self._engine.decoders
        self.replies = list(replies)
        self.requests: list[Request] = []
        self.calls: list[tuple[str, Call]] = []

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        forced = reply_ids(self.replies.pop(0))
        self.requests += requests
        yield from self._engine.stream(
            [replace(one, options=replace(one.options, forced=forced)) for one in requests]
        )

    def submit(self, decoder: str, calls: Sequence[Call]) -> Any:
        self.calls += [(decoder, call) for call in calls]
        return self._engine.submit(decoder, calls)

    def close(self) -> None:
        self._engine.close()


def scripted(model: Model, *replies: str) -> tuple[System, Scripted]:
    engine = Scripted(model, *replies)
    return System(engine, name=model.name), engine
