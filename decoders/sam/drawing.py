"""Training prompts, drawn from labelled masks.

Source: Kirillov et al. 2023 (Segment Anything), appendix A: points drawn evenly from the mask, boxes
with noise of a tenth of their side. Links alone ask for all objects of their label (Lai et al. 2024).

Axes: S side of the frame, s side of the mask grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from superlink.decoders.artifacts import tight_boxes
from superlink.decoders.letterbox import Size
from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.frame import FramePrompt, mask_prompt

KINDS = ("box", "points", "mask")


def draw_prompts(
    masks: Tensor,
    labels: Sequence[int],
    *,
    call: int,
    links: int,
    inner: Size,
    config: SamConfig,
    rng: np.random.Generator,
) -> tuple[list[FramePrompt], list[Tensor]]:
    """Prompts of one call, and the (S, S) bool mask that each of them should give.

    Args:
        masks: (N, S, S) bool, labelled objects in the frame.
        labels: link of each object.
        call: row of the batch.
        links: how many the call has; one without objects is asked for by its link alone or not at all.
        inner: size of the picture in the frame.
        rng: of this call alone.
    """
    mix = config.prompts
    shares = np.array([mix.box, mix.points, mix.mask], dtype=np.float64)
    alone = mix.link / (mix.link + shares.sum())
    prompts: list[FramePrompt] = []
    goals: list[Tensor] = []
    for label in range(links):
        own = masks[torch.tensor([one == label for one in labels], dtype=torch.bool)]
        own = own[own.flatten(1).any(1)]
        for _ in range(mix.draws):
            if config.link_prompts and rng.random() < alone:
                prompts.append(_prompt(call, label, link_alone=True))
                goals.append(own.any(0))
                continue
            for goal in own:
                kind = "box" if shares.sum() == 0 else KINDS[rng.choice(3, p=shares / shares.sum())]
                prompts.append(_object_prompt(goal, kind, call, label, inner, config, rng))
                goals.append(goal)
    return prompts, goals


def _prompt(
    call: int,
    label: int,
    *,
    points: NDArray[np.floating] | None = None,
    inside: NDArray[np.signedinteger] | None = None,
    box: NDArray[np.floating] | None = None,
    mask: Tensor | None = None,
    link_alone: bool = False,
) -> FramePrompt:
    return FramePrompt(
        call=call,
        label=label,
        points=torch.zeros(0, 2) if points is None else torch.from_numpy(points).float(),
        inside=torch.zeros(0, dtype=torch.long) if inside is None else torch.from_numpy(inside),
        box=None if box is None else torch.from_numpy(box).float(),
        mask=mask,
        link_alone=link_alone,
    )


def _object_prompt(
    goal: Tensor,
    kind: str,
    call: int,
    label: int,
    inner: Size,
    config: SamConfig,
    rng: np.random.Generator,
) -> FramePrompt:
    box = tight_boxes(goal[None].numpy())[0].astype(np.float64)
    if kind == "points":
        points, inside = draw_points(goal, box, inner, config.max_points, rng)
        return _prompt(call, label, points=points, inside=inside)
    noisy = noisy_box(box, inner, share=config.box_noise, limit=config.box_noise_limit, rng=rng)
    if kind == "box":
        return _prompt(call, label, box=noisy)
    rough = coarse_mask(goal, box, rng)
    mask = mask_prompt(rough, stride=config.mask_stride, logit=config.mask_prompt_logit)
    return _prompt(call, label, box=noisy, mask=mask)


def noisy_box(
    box: NDArray[np.float64], inner: Size, *, share: float, limit: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(4,) xyxy with normal noise of `share` of its sides, at most `limit` pixels, inside `inner`."""
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + (rng.normal(size=4) * share * sides).clip(-limit, limit)
    height, width = inner
    low, high = np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])
    return np.concatenate([low, high]).clip(0, (width, height, width, height))


def draw_points(
    goal: Tensor, box: NDArray[np.float64], inner: Size, most: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Up to `most` (P, 2) pixels x, y and (P,) 1 or 0: the first on the mask, others on it or near it."""
    count = int(rng.integers(1, most + 1))
    beside = int(rng.integers(0, count))
    on = goal.nonzero().numpy()[:, ::-1]
    chosen = [on[rng.integers(0, len(on), size=count - beside)]]
    flags = [1] * (count - beside)
    x0, y0, x1, y1 = box
    across, down = (x1 - x0) / 2, (y1 - y0) / 2
    left, top = int(max(x0 - across, 0)), int(max(y0 - down, 0))
    right, bottom = int(min(x1 + across + 1, inner[1])), int(min(y1 + down + 1, inner[0]))
    off = (~goal[top:bottom, left:right]).nonzero().numpy()[:, ::-1] + (left, top)
    if len(off):
        chosen.append(off[rng.integers(0, len(off), size=beside)])
        flags += [0] * beside
    return np.concatenate(chosen).astype(np.float64), np.array(flags, dtype=np.int64)


def coarse_mask(goal: Tensor, box: NDArray[np.float64], rng: np.random.Generator) -> Tensor:
    """The mask moved by up to a tenth of its size and made thicker or thinner, as a rough brush would be."""
    sides = box[2:] - box[:2]
    across, down = (rng.uniform(-0.1, 0.1, size=2) * sides).round().astype(int).tolist()
    height, width = goal.shape
    moved = torch.zeros_like(goal)
    moved[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)] = goal[
        max(-down, 0) : height - max(down, 0), max(-across, 0) : width - max(across, 0)
    ]
    reach = int(rng.integers(0, max(1, int(0.1 * sides.min())) + 1))
    grown = bool(rng.integers(0, 2))
    map_ = moved[None].float() if grown else 1 - moved[None].float()
    # Down, then across: the largest of a square is the largest of its columns' largest.
    for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        map_ = F.max_pool2d(map_, kernel, stride=1, padding=padding)
    thick = map_[0] > 0.5
    rough = thick if grown else ~thick
    return rough if bool(rough.any()) else goal
