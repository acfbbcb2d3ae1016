"""Keypoint terms of the loss and of the matching cost.

Coordinates are relative to the picture, areas to that of the picture.

Axes: T layers, B pictures, G instances, M objects or matched pairs, P keypoint slots, n objects of one
picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superlink.decoders.grounding_dino.losses import Targets
from superlink.decoders.unipose.config import PoseCosts

# How far off annotators were, over the object's scale (COCO keypoint evaluation).
COCO_SIGMAS = {
    "nose": 0.026,
    "left eye": 0.025,
    "right eye": 0.025,
    "left ear": 0.035,
    "right ear": 0.035,
    "left shoulder": 0.079,
    "right shoulder": 0.079,
    "left elbow": 0.072,
    "right elbow": 0.072,
    "left wrist": 0.062,
    "right wrist": 0.062,
    "left hip": 0.107,
    "right hip": 0.107,
    "left knee": 0.087,
    "right knee": 0.087,
    "left ankle": 0.089,
    "right ankle": 0.089,
}
OTHER_SIGMA = 0.025  # of any other keypoint, as published
LEAST_OKS = 1e-6


def sigma_of(name: str) -> float:
    """The constant of a keypoint for OKS, by its name: "left eye" or "left_eye"."""
    return COCO_SIGMAS.get(name.lower().replace("_", " "), OTHER_SIGMA)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoseTargets:
    """Labels of a batch; keypoints in the order of the links."""

    objects: Targets
    points: tuple[Tensor, ...]  # for each picture (n, P, 2) x, y of the picture
    visible: tuple[Tensor, ...]  # for each picture (n, P) float, 1 where a keypoint is labelled
    areas: tuple[Tensor, ...]  # for each picture (n,) share of the picture
    sigmas: tuple[Tensor, ...]  # for each picture (P,)

    def of(self, picture: int) -> Labels:
        """The objects of one picture."""
        areas = self.areas[picture]
        return Labels(
            points=self.points[picture],
            visible=self.visible[picture],
            areas=areas,
            sigmas=self.sigmas[picture].expand(len(areas), -1),
        )

    def table(self) -> Labels:
        """The objects of all pictures in one table."""
        sigmas = [one.expand(len(area), -1) for one, area in zip(self.sigmas, self.areas, strict=True)]
        return Labels(
            points=torch.cat(self.points),
            visible=torch.cat(self.visible),
            areas=torch.cat(self.areas),
            sigmas=torch.cat(sigmas),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """Keypoints of M objects."""

    points: Tensor  # (M, P, 2)
    visible: Tensor  # (M, P)
    areas: Tensor  # (M,)
    sigmas: Tensor  # (M, P)

    def take(self, index: Tensor) -> Labels:
        return Labels(
            points=self.points[index],
            visible=self.visible[index],
            areas=self.areas[index],
            sigmas=self.sigmas[index],
        )


def oks(points: Tensor, labels: Labels) -> Tensor:
    """Object keypoint similarity of (..., M, P, 2) points with M objects -> (..., M), in [0, 1].

    Zero for an object without any labelled keypoint. Source: COCO keypoint evaluation.
    """
    squared = (points - labels.points).square().sum(-1)
    scale = 2 * labels.areas[:, None] * (2 * labels.sigmas).square()
    near = (-squared / scale.clamp(min=1e-12)).exp() * labels.visible
    return near.sum(-1) / (labels.visible.sum(-1) + 1e-6)


def distance(points: Tensor, labels: Labels) -> Tensor:
    """L1 distance, summed over the labelled keypoints, with shapes as in `oks`."""
    return ((points - labels.points).abs().sum(-1) * labels.visible).sum(-1)


@torch.no_grad()
def keypoint_cost(keypoints: Tensor, labels: Labels, costs: PoseCosts) -> Tensor:
    """(..., G, P, 2) keypoints of a picture against its objects -> (..., G, M)."""
    found = keypoints.float()[..., None, :, :]
    unlike = 1 - oks(found, labels).clamp(min=LEAST_OKS)
    return costs.keypoints * distance(found, labels) + costs.oks * unlike


def keypoint_terms(
    suffixes: Sequence[str], found: Sequence[Tensor], labels: Sequence[Labels], *, count: float
) -> dict[str, Tensor]:
    """`loss_keypoints` and `loss_oks` of every layer that has keypoints.

    Args:
        found: for each layer (M, P, 2) of its matched instances.
        labels: for each layer the M objects that they stand for.
        count: what the sums are divided by.
    """
    terms = {}
    for suffix, points, goal in zip(suffixes, found, labels, strict=True):
        terms[f"loss_keypoints{suffix}"] = distance(points, goal).sum() / count
        terms[f"loss_oks{suffix}"] = (1 - oks(points, goal).clamp(min=LEAST_OKS)).sum() / count
    return terms
