"""From noise to latents: the denoising loop with classifier-free guidance.

It repeats, operation by operation, what diffusers' pipelines do, so that pictures are equal bit
for bit; unlike there, every row has its own seed.

Axes: B pictures, Q vectors of the conditioning, d their width, C latent channels, h x w latent cells.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from superlink.decoders.letterbox import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a picture is made. Calls with equal plans can share a batch."""

    size: Size  # of the frame
    steps: int
    guidance: float
    image_guidance: float | None = None  # None: no picture is looked at

    @property
    def guided(self) -> bool:
        """Whether predictions without conditioning are needed too; the pipelines' rule."""
        return self.guidance > 1.0 and (self.image_guidance is None or self.image_guidance >= 1.0)


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    scheduler: Any,
    plan: Plan,
    *,
    conditioning: Tensor,
    empty: Tensor,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    sources: Tensor | None = None,
    unchanged: float = 0.0,
) -> Tensor:
    """(B, C, h, w) latents.

    Args:
        scheduler: a fresh one.
        conditioning: (B, Q, d).
        empty: (1, Q, d), the conditioning of no words at all.
        shape: (C, h, w).
        seeds: one for each row.
        sources: (B, C, h, w) latents of the pictures to edit.
        unchanged: how much of them is added to every prediction.
    """
    device, dtype = conditioning.device, conditioning.dtype
    # Drawn on the CPU, so that a seed means the same picture on every device.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    states, beside = _branches(plan, conditioning, empty.expand_as(conditioning), sources)
    scheduler.set_timesteps(plan.steps, device=device)
    takes = inspect.signature(scheduler.step).parameters
    extra = {"generator": generators} if "generator" in takes else {}
    latents: Tensor = randn_tensor(
        (len(conditioning), *shape), generator=generators, device=device, dtype=dtype
    )
    latents = latents * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        copies = torch.cat([latents] * (len(states) // len(latents)))
        given = scheduler.scale_model_input(copies, time)
        if beside is not None:
            given = torch.cat([given, beside], dim=1)
        predicted = unet(given, time, encoder_hidden_states=states, return_dict=False)[0]
        if beside is not None and unchanged:
            predicted = predicted + beside * unchanged
        latents = scheduler.step(_guide(plan, predicted), time, latents, **extra, return_dict=False)[0]
    return latents


def _branches(
    plan: Plan, conditioning: Tensor, empty: Tensor, sources: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """What the U-Net sees of words and of pictures: one row a prediction, in the order of `_guide`."""
    if not plan.guided:
        return conditioning, sources
    if sources is None:
        return torch.cat([empty, conditioning]), None
    nothing = torch.zeros_like(sources)
    return torch.cat([conditioning, empty, empty]), torch.cat([sources, sources, nothing])


def _guide(plan: Plan, predicted: Tensor) -> Tensor:
    """Ho and Salimans 2022, equation 6; with a picture Brooks et al. 2023, equation 3."""
    if not plan.guided:
        return predicted
    if plan.image_guidance is None:
        without, with_words = predicted.chunk(2)
        return without + plan.guidance * (with_words - without)
    with_both, with_picture, without = predicted.chunk(3)
    return (
        without + plan.guidance * (with_both - with_picture) + plan.image_guidance * (with_picture - without)
    )
