"""Small segmenters and calls for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from superlink.decoders.artifacts import Artifact, Boxes, Masks, tight_boxes
from superlink.decoders.contract import Call
from superlink.decoders.sam import SamConfig, SamDecoder
from superlink.decoders.sam.decoder import SamOutputs
from superlink.decoders.sam.inputs import SamInputs
from superlink.router.links import LinkBatch, SuperLink

LINK_DIM = 16


def small(**changes: Any) -> SamConfig:
    config = SamConfig(
        image_size=64,
        patch_size=8,
        vision_width=24,
        vision_layers=2,
        vision_heads=2,
        window=3,  # does not divide the grid of 8
        global_layers=(1,),
        d_model=32,
        mask_channels=8,
        decoder_heads=4,
        decoder_ffn_dim=32,
        iou_hidden=16,
    )
    return replace(config, **changes)


def built(config: SamConfig | None = None, *, seed: int = 0) -> SamDecoder:
    """A decoder in eval mode without the zeros that fresh weights have in places."""
    torch.manual_seed(seed)
    decoder = (config or small()).build(LINK_DIM)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        # Scores around a half: below 0 and above 1 they are cut, and all the same.
        decoder.model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.5)
    return decoder.eval()


def call_of(
    config: SamConfig,
    *,
    names: Sequence[str] = ("thing",),
    size: tuple[int, int] = (48, 64),
    **options: Any,
) -> Call:
    rng = np.random.default_rng(len(names))
    token = config.routes[0].token
    links = tuple(
        SuperLink(
            token=token,
            embeddings=torch.from_numpy(rng.normal(size=(token.num_links, LINK_DIM))).float(),
            phrase=name,
            position=index,
        )
        for index, name in enumerate(names)
    )
    given = {"id": "sam.0", "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8)}
    return Call(links=links, **given | options)


def run(
    decoder: SamDecoder, calls: Sequence[Call], targets: Sequence[Artifact] | None = None
) -> tuple[SamInputs, SamOutputs]:
    inputs = decoder.prepare(calls, targets)
    return inputs, decoder(LinkBatch.of([call.links for call in calls]), inputs)


def answers(decoder: SamDecoder, calls: Sequence[Call]) -> list[Masks]:
    decoder.eval()
    with torch.inference_mode():
        inputs, outputs = run(decoder, calls)
        found = decoder.postprocess(outputs, inputs)
    assert all(isinstance(one, Masks) for one in found)
    return [one for one in found if isinstance(one, Masks)]


def boxes_of(
    xyxy: Sequence[Sequence[float]],
    *,
    labels: Sequence[int] | None = None,
    names: tuple[str, ...] = ("thing",),
    size: tuple[int, int] = (48, 64),
    score: float = 1.0,
) -> Boxes:
    return Boxes(
        xyxy=np.array(xyxy, dtype=np.float32).reshape(-1, 4),
        scores=np.full(len(xyxy), score, dtype=np.float32),
        labels=np.array(labels or [0] * len(xyxy), dtype=np.int64),
        names=names,
        size=size,
    )


def masks_of(
    masks: Any, *, labels: Sequence[int] | None = None, names: tuple[str, ...] = ("thing",)
) -> Masks:
    """(N, H, W)."""
    own = np.asarray(masks, dtype=np.bool_)
    return Masks(
        masks=own,
        xyxy=tight_boxes(own),
        scores=np.ones(len(own), dtype=np.float32),
        labels=np.array(labels or [0] * len(own), dtype=np.int64),
        names=names,
        size=(own.shape[1], own.shape[2]),
    )


def rectangle(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> Any:
    mask = np.zeros(size, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask
