"""Class supervision of every encoder cell, for training from scratch.

One-to-one matching teaches a handful of cells a picture which class they see; here every cell
learns it. A cell is positive for the classes of an object whose centre it lies near, on the level
whose cells suit the object's size (centre sampling and scale assignment as in Tian et al. 2019,
FCOS, section 3.1). Not part of the published losses.

Axes: B pictures, S cells, K classes, n objects of one picture, L levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from superlink.decoders.grounding_dino.inputs import FramedCalls
from superlink.decoders.grounding_dino.losses import Targets, focal, shared_labels
from superlink.decoders.grounding_dino.model import Detector, Proposals

RADIUS = 0.2  # of the object's width and height
CELLS = 8.0  # an object this many cells long or longer belongs to the next level


def dense_term(
    logits: Tensor,
    centres: Tensor,
    usable: Tensor,
    shapes: tuple[tuple[int, int], ...],
    targets: Targets,
    class_mask: Tensor,
    *,
    alpha: float,
    count: float,
) -> Tensor:
    """Focal loss over all cells and classes, divided by `count`.

    Args:
        logits: (B, S, K).
        centres: (B or 1, S, 2) x, y of the cells, in [0, 1] of the picture.
        usable: (B or 1, S) bool.
        shapes: (height, width) of each level.
        class_mask: (B, K) bool.
    """
    positive = torch.zeros_like(logits)
    for row, (labels, boxes) in enumerate(zip(targets.labels, targets.boxes, strict=True)):
        if len(labels):
            names = shared_labels(labels, boxes, logits.shape[-1])
            near = near_centre(centres[row % len(centres)], boxes, shapes)
            positive[row] = (near.float() @ names).clamp(max=1.0)
    mask = class_mask[:, None, :] & usable[..., None]
    return focal(logits.float(), positive * mask, mask, alpha=alpha) / count


def backbone_term(
    detector: Detector,
    inputs: FramedCalls,
    classes: Tensor,
    class_mask: Tensor,
    targets: Targets,
    *,
    alpha: float,
    count: float,
) -> Tensor:
    """`dense_term` of the backbone's cells alone: neither encoder nor decoder layers run.

    It stands in for a backbone that was trained on classification before.
    """
    pyramid = detector.pyramid(inputs.pixels, inputs.valid)
    start, usable = pyramid.proposals()
    _, logits = detector.score(pyramid.cells, usable, classes, class_mask)
    centres, shapes = start[..., :2].sigmoid(), pyramid.shapes
    return dense_term(logits, centres, usable, shapes, targets, class_mask, alpha=alpha, count=count)


def dense_terms(
    proposals: Proposals,
    shapes: tuple[tuple[int, int], ...],
    targets: Targets,
    class_mask: Tensor,
    *,
    alpha: float,
    count: float,
) -> dict[str, Tensor]:
    """`dense_term` of the scores after the encoder and, where they are kept, before it."""
    scored = {"loss_dense": proposals.cell_logits, "loss_dense_early": proposals.early_logits}
    return {
        name: dense_term(
            logits,
            proposals.cell_centres,
            proposals.usable,
            shapes,
            targets,
            class_mask,
            alpha=alpha,
            count=count,
        )
        for name, logits in scored.items()
        if logits is not None
    }


def near_centre(centres: Tensor, boxes: Tensor, shapes: tuple[tuple[int, int], ...]) -> Tensor:
    """(S, n) bool: which cells stand for which objects (n, 4) cxcywh."""
    device = centres.device
    cell = torch.cat(
        [
            torch.tensor([1 / width, 1 / height], device=device).expand(height * width, 2)
            for height, width in shapes
        ]
    )
    level = torch.cat(
        [torch.full((height * width,), at, device=device) for at, (height, width) in enumerate(shapes)]
    )
    finest = torch.tensor([shapes[0][1], shapes[0][0]], device=device)
    length = (boxes[:, 2:] * finest).amax(-1)
    wanted = (length / CELLS).clamp(min=1e-6).log2().floor().long() + 1
    right_level = level[:, None] == wanted.clamp(0, len(shapes) - 1)
    reach = torch.maximum(RADIUS * boxes[None, :, 2:], 0.5 * cell[:, None])
    apart = (centres[:, None] - boxes[None, :, :2]).abs()
    return right_level & (apart <= reach).all(-1)
