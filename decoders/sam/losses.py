"""Loss terms of masks: focal or cross-entropy, dice, and how well the decoder judges itself.

Source: Kirillov et al. 2023 (Segment Anything), appendix A: focal and dice on masks, the predicted
IoU compared with the true one by mean squared error, and of several masks of a prompt only the
best is taught. Logits are read at frame pixels, as they are when they are served.

Axes: N prompts, M masks a prompt, s side of the mask grid, S side of the frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.inputs import Targets


def mask_terms(logits: Tensor, fits: Tensor, targets: Targets, config: SamConfig) -> dict[str, Tensor]:
    """`loss_mask`, `loss_dice`, `loss_iou`, each summed over the prompts.

    Args:
        logits: (N, M, s, s).
        fits: (N, M) predicted IoU.
        targets: of the N prompts.
    """
    side = targets.masks.shape[-1]
    whole = F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    valid = targets.valid[:, None].float()
    goal = targets.masks[:, None].float()
    pixels = valid.sum((-2, -1))
    entropy = focal(whole, goal.expand_as(whole), alpha=config.focal_alpha, gamma=config.focal_gamma) * valid
    mask = entropy.sum((-2, -1)) / pixels
    prob = whole.sigmoid() * valid
    dice = 1 - (2 * (prob * goal).sum((-2, -1)) + 1) / (prob.sum((-2, -1)) + goal.sum((-2, -1)) + 1)
    miss = (fits - true_iou(whole.detach() > 0, targets)) ** 2
    with torch.no_grad():
        best = (config.weights.mask * mask + config.weights.dice * dice).argmin(1, keepdim=True)
    return {
        "loss_mask": mask.gather(1, best).sum(),
        "loss_dice": dice.gather(1, best).sum(),
        "loss_iou": miss.mean(1).sum(),
    }


def focal(logits: Tensor, goal: Tensor, *, alpha: float | None, gamma: float) -> Tensor:
    """Focal loss of every logit (Lin et al. 2017, equation 5); cross-entropy with None and 0."""
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    if gamma:
        prob = logits.sigmoid()
        entropy = entropy * (prob + goal - 2 * prob * goal) ** gamma
    if alpha is not None:
        entropy = entropy * (alpha * goal + (1 - alpha) * (1 - goal))
    return entropy


def true_iou(found: Tensor, targets: Targets) -> Tensor:
    """(N, M) IoU of (N, M, S, S) bool masks with their targets, on the picture; 0 where both are empty."""
    found = found & targets.valid[:, None]
    goal = targets.masks[:, None]
    both = (found & goal).sum((-2, -1)).float()
    either = (found | goal).sum((-2, -1)).float()
    return both / either.clamp(min=1.0)
