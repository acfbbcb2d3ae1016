"""What a step of training is judged by.

Axes: B calls, C latent channels, h x w latent cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Denoised:
    """One step of training."""

    predicted: Tensor  # (L B, C, h, w) for L noise levels
    goal: (
        Tensor  # (L B, C, h, w) the noise; the velocity or the picture's latents where the scheduler says so
    )
    times: Tensor  # (L B,) time steps
    changed: Tensor | None = None  # (L B, 1, h, w) bool: cells where an edit differs from its source


def mean_square(found: Tensor, expected: Tensor) -> Tensor:
    """(B,) mean squared differences, in float32."""
    return F.mse_loss(found.float(), expected.float(), reduction="none").flatten(1).mean(1)


def mean_square_where(places: Tensor, found: Tensor, expected: Tensor) -> Tensor:
    """(B,) mean squared differences over some cells (B, 1, h, w), in float32; zero where there are none."""
    apart = F.mse_loss(found.float(), expected.float(), reduction="none").mean(dim=1, keepdim=True)
    return (apart * places).flatten(1).sum(1) / places.flatten(1).sum(1).clamp(min=1)


def time_weights(levels: DDPMScheduler, times: Tensor, gamma: float | None) -> Tensor:
    """(B,) weights of the time steps by their signal-to-noise ratio; ones without `gamma`.

    Source: Hang et al. 2023 (min-SNR), section 3.4 and, for velocities, its appendix. Predictions of the
    picture itself are weighted by the clamped ratio.
    """
    if gamma is None:
        return torch.ones_like(times, dtype=torch.float32)
    signal: Tensor = levels.alphas_cumprod.to(times.device)[times]
    ratio = signal / (1 - signal)
    over = {"epsilon": ratio, "v_prediction": ratio + 1.0, "sample": torch.ones_like(ratio)}
    return ratio.clamp(max=gamma) / over[levels.config.prediction_type]
