"""Small UniPoses, calls and labels for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from superlink.decoders.artifacts import Artifact, Keypoints
from superlink.decoders.contract import Call
from superlink.decoders.unipose import UniPoseConfig, UniPoseDecoder
from superlink.decoders.unipose.decoder import PoseOutputs
from superlink.decoders.unipose.inputs import PoseInputs
from superlink.router.links import LinkBatch, SuperLink
from superlink.workflows.train.recipes import tiny_detector
from tests.decoders.grounding_dino.detectors import CONVNEXT, LINK_DIM
from tests.decoders.grounding_dino.detectors import small as small_detector

THREE_STAGES = CONVNEXT | {"out_features": ["stage2", "stage3", "stage4"]}


def small(*, detector: dict[str, Any] | None = None, **changes: Any) -> UniPoseConfig:
    """`detector`: what changes in the detector."""
    base = small_detector(
        **({"backbone": THREE_STAGES, "mask_dim": 0, "decoder_layers": 3} | (detector or {}))
    )
    config = UniPoseConfig(detector=base, box_layers=1, num_instances=6, max_keypoints=20)
    return replace(config, **changes)


def tiny() -> UniPoseConfig:
    """Keypoints on top of the detector that the embedded model has, for two CPU cores."""
    base = tiny_detector()
    stages = {"out_features": ["stage2", "stage3", "stage4"]}
    detector = replace(base, mask_dim=0, mask_hidden=None, backbone=dict(base.backbone) | stages)
    return UniPoseConfig(detector=detector, box_layers=1, num_instances=20, max_keypoints=17)


def call_of(
    config: UniPoseConfig,
    *,
    names: Sequence[str] = ("person",),
    parts: Sequence[str] = ("nose", "left eye"),
    size: tuple[int, int] = (48, 64),
    **options: Any,
) -> Call:
    rng = np.random.default_rng(len(names))
    (route,) = config.routes
    phrases = [(route.takes[0], name) for name in names] + [(route.token, part) for part in parts]
    links = tuple(
        SuperLink(
            token=token,
            embeddings=torch.from_numpy(rng.normal(size=(token.num_links, LINK_DIM))).float(),
            phrase=phrase,
            position=index,
        )
        for index, (token, phrase) in enumerate(phrases)
    )
    options = {"id": "unipose.0", "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8)} | options
    return Call(links=links, **options)


def keypoints_for(
    call: Call, xyxy: Sequence[Sequence[float]], labels: Sequence[int], xyv: Sequence[Any] | None = None
) -> Keypoints:
    """Labels of a call; without `xyv` every keypoint lies in the middle of its box."""
    assert call.image is not None
    boxes = np.array(xyxy, dtype=np.float32).reshape(-1, 4)
    if xyv is None:
        middle = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.full((len(boxes), 1), 2.0)], 1)
        xyv = np.repeat(middle[:, None], len(call.parts), 1).tolist()
    return Keypoints(
        xyv=np.array(xyv, dtype=np.float32).reshape(len(boxes), len(call.parts), 3),
        keypoint_names=call.parts,
        xyxy=boxes,
        scores=np.ones(len(labels), dtype=np.float32),
        labels=np.array(labels, dtype=np.int64),
        names=call.names,
        size=(call.image.shape[0], call.image.shape[1]),
    )


def run(
    decoder: UniPoseDecoder, calls: Sequence[Call], targets: Sequence[Artifact] | None = None
) -> tuple[PoseInputs, PoseOutputs]:
    inputs = decoder.prepare(calls, targets)
    return inputs, decoder(LinkBatch.of([call.links for call in calls]), inputs)


def answers(decoder: UniPoseDecoder, calls: Sequence[Call]) -> list[Keypoints]:
    decoder.eval()
    with torch.no_grad():
        inputs, outputs = run(decoder, calls)
        found = decoder.postprocess(outputs, inputs)
    return [one for one in found if isinstance(one, Keypoints)]
