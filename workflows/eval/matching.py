"""Matching what was found with what there is: IoU, F1, mask overlap of matched objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from superlink.decoders.artifacts import Boxes, FloatArray, Keypoints, Masks


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts that add up over pictures."""

    right: int = 0
    found: int = 0
    truths: int = 0
    overlap: float = 0.0  # sum of the mask IoU of right ones

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            right=self.right + other.right,
            found=self.found + other.found,
            truths=self.truths + other.truths,
            overlap=self.overlap + other.overlap,
        )

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.truths if self.truths else 0.0

    @property
    def f1(self) -> float:
        """1 where there was nothing to find and nothing was found."""
        total = self.found + self.truths
        return 2 * self.right / total if total else 1.0

    @property
    def mean_overlap(self) -> float:
        return self.overlap / self.right if self.right else 0.0


def box_iou(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """(N, M) IoU of every pair of (N, 4) and (M, 4) boxes; 0 for two empty ones."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    sizes = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    other_sizes = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(axis=1)
    union = sizes[:, None] + other_sizes[None] - shared
    iou: FloatArray = np.where(union > 0, shared / np.maximum(union, 1e-9), 0).astype(np.float32)
    return iou


def matches(
    found: Boxes | Masks | Keypoints, truth: Boxes | Masks | Keypoints, least: float = 0.5
) -> list[tuple[int, int]]:
    """Pairs (found, truth) of the same name with box IoU of at least `least`.

    Found ones take their best free truth in order of score, as COCO matches.
    """
    iou = box_iou(found.xyxy, truth.xyxy)
    names = np.asarray([truth.names[label] for label in truth.labels])
    free = np.ones(len(truth), dtype=np.bool_)
    pairs = []
    for row in np.argsort(-found.scores, kind="stable"):
        allowed = free & (names == found.names[found.labels[row]]) & (iou[row] >= least)
        if allowed.any():
            best = int(np.where(allowed, iou[row], -1).argmax())
            free[best] = False
            pairs.append((int(row), best))
    return pairs


def tally(
    found: Boxes | Masks | Keypoints,
    truth: Boxes | Masks | Keypoints,
    least: float = 0.5,
    *,
    groups: Boxes | Masks | None = None,
) -> Tally:
    """Counts of one picture; the overlap of right ones too where both are masks.

    Args:
        groups: crowds. What is no object does not count where `least` of its box lies in one of its name.
    """
    pairs = matches(found, truth, least)
    overlap = 0.0
    if isinstance(found, Masks) and isinstance(truth, Masks):
        overlap = sum(mask_iou(found, row, truth, column) for row, column in pairs)
    right = {row for row, _ in pairs}
    ignored = sum(row not in right and _is_in(found, row, groups, least) for row in range(len(found)))
    return Tally(right=len(pairs), found=len(found) - ignored, truths=len(truth), overlap=overlap)


def _is_in(found: Boxes | Masks | Keypoints, row: int, groups: Boxes | Masks | None, least: float) -> bool:
    """Whether an item lies in a crowd of its name."""
    if groups is None:
        return False
    x0, y0, x1, y1 = map(float, found.xyxy[row])
    for name, (left, top, right, bottom) in zip(groups.phrases, groups.xyxy, strict=True):
        shared = max(min(x1, right) - max(x0, left), 0) * max(min(y1, bottom) - max(y0, top), 0)
        if name == found.phrases[row] and shared >= least * (x1 - x0) * (y1 - y0):
            return True
    return False


def mask_iou(found: Masks, row: int, truth: Masks, column: int) -> float:
    """IoU of two masks of the same picture; 0 where both are empty."""
    a, b = found.masks[row], truth.masks[column]
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0
