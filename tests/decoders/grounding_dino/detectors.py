"""Small detectors and calls for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from superlink.decoders.artifacts import Artifact
from superlink.decoders.contract import Call
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.decoder import DetectionOutputs, GroundingDinoDecoder
from superlink.decoders.grounding_dino.inputs import DetectionInputs
from superlink.router.links import LinkBatch, SuperLink

LINK_DIM = 16
CONVNEXT = {
    "model_type": "convnext",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 16, 16],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def small(**changes: Any) -> GroundingDinoConfig:
    config = GroundingDinoConfig(
        backbone=CONVNEXT,
        d_model=32,
        norm_groups=8,
        num_queries=10,
        num_feature_levels=3,
        encoder_layers=1,
        encoder_heads=4,
        encoder_ffn_dim=32,
        decoder_layers=2,
        decoder_heads=4,
        decoder_ffn_dim=32,
        dropout=0.0,
        fusion_droppath=0.0,
        mask_dim=8,
        fusion_scale=0.1,
        class_prior=0.01,
        shortest=64,
        longest=64,
        square=True,
        num_points=64,
        dn_number=4,
    )
    return replace(config, **changes)


def call_of(
    config: GroundingDinoConfig,
    *,
    token: str = "[DET]",
    names: Sequence[str] = ("thing",),
    size: tuple[int, int] = (48, 64),
    **options: Any,
) -> Call:
    rng = np.random.default_rng(len(names))
    route = next(route for route in config.routes if route.token.text == token)
    links = tuple(
        SuperLink(
            token=route.token,
            embeddings=torch.from_numpy(rng.normal(size=(route.token.num_links, LINK_DIM))).float(),
            phrase=name,
            position=index,
        )
        for index, name in enumerate(names)
    )
    options = {"id": "grounding_dino.0", "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8)} | options
    return Call(links=links, **options)


def run(
    decoder: GroundingDinoDecoder, calls: Sequence[Call], targets: Sequence[Artifact] | None = None
) -> tuple[DetectionInputs, DetectionOutputs]:
    inputs = decoder.prepare(calls, targets)
    return inputs, decoder(LinkBatch.of([call.links for call in calls]), inputs)


def answers(decoder: GroundingDinoDecoder, calls: Sequence[Call]) -> list[Artifact]:
    decoder.eval()
    with torch.no_grad():
        inputs, outputs = run(decoder, calls)
        return decoder.postprocess(outputs, inputs)
