"""Which predictions become items of an answer.

Axes: Q queries, K links, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from superlink.decoders.artifacts import (
    Artifact,
    BoolArray,
    Boxes,
    FloatArray,
    IntArray,
    Keypoints,
    Masks,
    Origin,
)
from superlink.decoders.contract import Call, Route
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.results import keep_top, merge_doubles, overlapping, tight_boxes
from superlink.decoders.letterbox import Size
from superlink.router.errors import DecoderError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Items:
    """Best score first."""

    xyxy: FloatArray  # (N, 4) in pixels, inside the picture
    scores: FloatArray  # (N,)
    labels: IntArray  # (N,) link
    queries: IntArray  # (N,)

    def take(self, index: NDArray[np.signedinteger]) -> Items:
        return Items(
            xyxy=self.xyxy[index],
            scores=self.scores[index],
            labels=self.labels[index],
            queries=self.queries[index],
        )


def refuse_damaged(call: Call, *found: Tensor) -> None:
    """Raises DecoderError for values that are not finite, which would be served as "nothing found"."""
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise DecoderError(f"call {call.id!r}: scores or places came out with values that are not finite")


def chosen_items(
    prob: NDArray[np.floating],
    boxes: NDArray[np.floating],
    call: Call,
    route: Route,
    size: Size,
    config: GroundingDinoConfig,
) -> Items:
    """Items of one call.

    Args:
        prob: (Q, K) class probabilities.
        boxes: (Q, 4) cxcywh of the picture.
    """
    height, width = size
    half = boxes[:, 2:] / 2
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1).clip(0, 1)
    xyxy = (corners * (width, height, width, height)).astype(np.float32)
    allowed = np.ones(len(xyxy), dtype=np.bool_)
    referred = referred_boxes(call)
    if referred is not None:
        allowed = overlapping(xyxy, referred)
    default = config.threshold if route.top is None else config.grounding_threshold
    least = default if call.threshold is None else call.threshold
    queries, labels = np.nonzero((prob >= least) & allowed[:, None])
    order = np.argsort(-prob[queries, labels], kind="stable")
    queries, labels = queries[order], labels[order]
    items = Items(
        xyxy=xyxy[queries],
        scores=prob[queries, labels].astype(np.float32),
        labels=labels.astype(np.int64),
        queries=queries.astype(np.int64),
    )
    if config.merge_iou is not None:
        most = config.max_detections
        kept = merge_doubles(items.xyxy, items.labels, config.merge_iou, top=route.top, count=most)
        items = items.take(kept)
    if route.top is not None:
        items = items.take(keep_top(items.labels, route.top))
    return items.take(np.arange(min(len(items.scores), config.max_detections)))


def referred_boxes(call: Call) -> FloatArray | None:
    """(M, 4) boxes of the items that the call builds on; None where it builds on none."""
    given = [one.xyxy for one in call.inputs if isinstance(one, (Boxes, Masks, Keypoints))]
    return np.concatenate(given) if given else None


def answer(items: Items, masks: BoolArray | None, call: Call, size: Size, decoder: str) -> Artifact:
    """The artifact of one call; items whose mask came out empty are left out."""
    origin = Origin(source=call.image_id, decoder=decoder)
    if masks is None:
        return Boxes(
            xyxy=items.xyxy,
            scores=items.scores,
            labels=items.labels,
            names=call.names,
            size=size,
            origin=origin,
        )
    filled = np.flatnonzero(masks.any((1, 2)))
    items, masks = items.take(filled), masks[filled]
    return Masks(
        masks=masks,
        xyxy=tight_boxes(masks),
        scores=items.scores,
        labels=items.labels,
        names=call.names,
        size=size,
        origin=origin,
    )
