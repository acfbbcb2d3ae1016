"""Contrastive denoising: noised ground truth as extra decoder queries, which skip the matching.

Each group repeats every object of a picture twice: a positive (small noise, must be recovered)
and a negative (large noise, must be rejected). The content of a query is the projected super-link
of its (sometimes flipped) class. Source: Zhang et al. 2022 (DINO), section 3.3.

Axes: B pictures, N denoising queries, Q matching queries, d width, K classes, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superlink.decoders.grounding_dino.boxes import EPS, inverse_sigmoid, to_cxcywh, to_xyxy
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.noise import Noise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Denoising:
    """Queries that are put before the matching queries."""

    content: Tensor  # (B, N, d)
    boxes: Tensor  # (B, N, 4) cxcywh before the sigmoid
    real: Tensor  # (B, N) bool; False = padding
    groups: int
    slots: int  # most objects in a picture; a group holds `slots` positives, then `slots` negatives

    def positives(self, objects: int) -> Tensor:
        """(G * objects,) index of the positive of object 0, 1, ... of group 0, then group 1, ..."""
        starts = torch.arange(self.groups)[:, None] * (2 * self.slots)
        return (starts + torch.arange(objects)).flatten()

    def blocked(self, queries: int, *, hide_padding: bool) -> Tensor:
        """(1 or B, 1, N + Q, N + Q) bool, True where row must not see column.

        Matching queries see no denoising query, groups do not see each other.
        """
        count = self.boxes.shape[1]
        device = self.boxes.device
        group = torch.arange(count + queries, device=device) // (2 * self.slots)
        group[count:] = self.groups
        noised = group < self.groups
        blocked = (noised[None, :] & (group[:, None] != group[None, :]))[None, None]
        if not hide_padding:
            return blocked
        padding = torch.zeros(len(self.real), count + queries, dtype=torch.bool, device=device)
        padding[:, :count] = ~self.real
        diagonal = torch.eye(count + queries, dtype=torch.bool, device=device)
        return (blocked | padding[:, None, None, :]) & ~diagonal


def build_denoising(
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    classes: Tensor,
    class_counts: Tensor,
    config: GroundingDinoConfig,
    noise: Noise,
    *,
    eps: float = EPS,
) -> Denoising | None:
    """Noised queries for a batch; None where there is nothing to denoise.

    Args:
        labels: for each picture (n,) class index.
        boxes: for each picture (n, 4) cxcywh.
        classes: (B, K, d) projected links.
        class_counts: (B,) classes of each picture, for flipped labels.
        eps: of the inverse sigmoid of the boxes.
    """
    sizes = [len(one) for one in labels]
    slots = max(sizes)
    if config.dn_number == 0 or slots == 0:
        return None
    groups = config.dn_groups or max(1, config.dn_number // slots)
    device = classes.device
    repeats = 2 * groups
    owner = torch.cat([torch.full((n,), b, device=device) for b, n in enumerate(sizes)]).repeat(repeats)
    place = torch.cat([torch.arange(n, device=device) for n in sizes]).repeat(repeats)
    turn = torch.arange(repeats, device=device).repeat_interleave(sum(sizes))
    label = torch.cat(list(labels)).repeat(repeats)
    box = torch.cat(list(boxes)).repeat(repeats, 1)

    if config.dn_label_noise > 0:
        flipped = (noise.uniform(owner) < config.dn_label_noise * 0.5).nonzero()[:, 0]
        label = label.index_copy(0, flipped, noise.below(owner[flipped], class_counts[owner[flipped]]))
    if config.dn_box_noise > 0:
        box = _shifted(box, owner, negative=turn % 2 == 1, scale=config.dn_box_noise, noise=noise)

    slot = turn * slots + place
    shape = (len(sizes), repeats * slots)
    content = classes.new_zeros(*shape, classes.shape[-1])
    content[owner, slot] = classes[owner, label]
    unsigmoid = box.new_zeros(*shape, 4)
    unsigmoid[owner, slot] = inverse_sigmoid(box, eps)
    real = torch.zeros(shape, dtype=torch.bool, device=device)
    real[owner, slot] = True
    return Denoising(content=content, boxes=unsigmoid, real=real, groups=groups, slots=slots)


def _shifted(boxes: Tensor, owner: Tensor, *, negative: Tensor, scale: float, noise: Noise) -> Tensor:
    """Corners moved by up to half the box's size; by half to all of it for negatives."""
    half = boxes[:, 2:] / 2
    sign = noise.coins(owner, 4) * 2 - 1
    part = (noise.uniform(owner, 4) + negative[:, None].float()) * sign
    corners = to_xyxy(boxes) + part * torch.cat([half, half], -1) * scale
    return to_cxcywh(corners.clamp(0, 1))
