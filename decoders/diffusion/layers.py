"""The library's networks from plain options, and the mapper that stands between links and them.

Axes: B calls, L embeddings of a link, D link width, Q vectors of the conditioning, d their width, C latent
channels, h x w latent cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from superlink.decoders.diffusion.config import DiffusionConfig
from superlink.router.errors import ModelError

# What schedulers raise for options or numbers of steps that they cannot do.
_CANNOT = (NotImplementedError, ValueError, IndexError, ZeroDivisionError)


class LinkMapper(nn.Module):
    """Links to the conditioning of a U-Net: a projection, then learned queries that read it.

    The published mapper: a stock pre-norm transformer without positions and masks (VisionLLM v2,
    Wu et al. 2024).
    """

    def __init__(self, config: DiffusionConfig, link_dim: int) -> None:
        super().__init__()
        width, heads = config.width, config.mapper_heads
        ffn = config.mapper_ffn_dim or 4 * width
        self.projection = nn.Sequential(nn.Linear(link_dim, width), nn.GELU(), nn.Linear(width, width))
        self.queries = nn.Parameter(torch.randn(1, config.num_queries, width))
        options: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        self.transformer = nn.Transformer(
            width,
            heads,
            batch_first=True,
            # Built here because the stock one warns about nested tensors, which this needs none of.
            custom_encoder=nn.TransformerEncoder(
                nn.TransformerEncoderLayer(width, heads, ffn, **options),
                config.mapper_encoder_layers,
                nn.LayerNorm(width),
                enable_nested_tensor=False,
            ),
            custom_decoder=nn.TransformerDecoder(
                nn.TransformerDecoderLayer(width, heads, ffn, **options),
                config.mapper_decoder_layers,
                nn.LayerNorm(width),
            ),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """(B, L, D) -> (B, Q, d)."""
        projected = self.projection(embeddings)
        mapped: Tensor = self.transformer(projected, self.queries.expand(len(projected), -1, -1))
        return mapped


def build_unet(options: Mapping[str, Any]) -> UNet2DConditionModel:
    """A U-Net with fresh weights: noisy latents, (B,) steps and a (B, Q, d) conditioning to (B, C, h, w).

    The latents are (B, C, h, w), with those of a picture to edit (B, 2 * C, h, w).

    Args:
        options: of diffusers' UNet2DConditionModel.

    Raises:
        ModelError: the options do not fit.
    """
    return _build(UNet2DConditionModel, options, "U-Net")


def build_vae(options: Mapping[str, Any]) -> AutoencoderKL:
    """An autoencoder with fresh weights: (B, 3, H, W) in [-1, 1] to a posterior of (B, C, h, w), and back.

    Args:
        options: of diffusers' AutoencoderKL.

    Raises:
        ModelError: the options do not fit, or shift latents in a way that is not computed here.
    """
    for name in ("shift_factor", "latents_mean", "latents_std"):
        if options.get(name):
            raise ModelError(
                f"the autoencoder has {name}={options[name]!r}; latents are only scaled, by scaling_factor"
            )
    return _build(AutoencoderKL, options, "autoencoder")


def build_text_encoder(options: Mapping[str, Any]) -> CLIPTextModel:
    """CLIP's text side with fresh weights that never learn: (B, Q) token ids to (B, Q, d).

    Args:
        options: of transformers' CLIPTextConfig.
    """
    encoder = CLIPTextModel(CLIPTextConfig(**options))
    encoder.requires_grad_(False)
    return encoder


def build_scheduler(options: Mapping[str, Any]) -> Any:
    """A fresh scheduler: it keeps state, so that every batch of pictures needs its own.

    Raises:
        ModelError: diffusers has no such scheduler, or its options do not fit.
    """
    return _build(scheduler_class(options), options, "scheduler")


def scheduler_class(options: Mapping[str, Any]) -> Any:
    name = options.get("_class_name")
    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, SchedulerMixin):
        raise ModelError(f"diffusers has no scheduler {name!r}; `_class_name` names it, as 'PNDMScheduler'")
    return kind


def step_counts(options: Mapping[str, Any]) -> tuple[int, int]:
    """The least and the most steps that a scheduler may take; whether it can, `can_take` finds out by trying.

    Raises:
        ModelError: it cannot take any: some know only a part of the kinds of predictions, and say so late.
    """
    # Some draw noise in a step; models are also made without memory, on another device.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        scheduler = build_scheduler(options)
        if not hasattr(scheduler, "betas"):
            raise ModelError(
                f"{type(scheduler).__name__} has no noise levels to learn; take another scheduler"
            )
        known = len(scheduler.betas)
        reasons: list[str] = []
        count = 1
        # Some need a few steps to begin with, and some take few at most.
        while (reason := _why_not(options, count)) is not None:
            reasons.append(reason)
            count *= 2
            if count > known:
                raise ModelError(
                    f"{type(scheduler).__name__} cannot make pictures with these options: {reasons[0]}; "
                    f"take another scheduler or prediction_type"
                )
        least = next(steps for steps in range(count // 2 + 1, count + 1) if _why_not(options, steps) is None)
        most = next((steps for steps in range(known, least, -1) if _sets(scheduler, steps)), least)
    return least, most


def can_take(options: Mapping[str, Any], steps: int) -> bool:
    """Whether a scheduler can take this many steps, which are within `step_counts`."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return _why_not(options, steps) is None


def _sets(scheduler: Any, steps: int) -> bool:
    try:
        scheduler.set_timesteps(steps)
    except _CANNOT:
        return False
    # An offset may lead beyond the last noise level.
    return bool(scheduler.timesteps.max() < len(scheduler.betas))


def _why_not(options: Mapping[str, Any], steps: int) -> str | None:
    """Why a fresh scheduler cannot make a picture in so many steps; None where it can."""
    scheduler, blank = build_scheduler(options), torch.zeros(1, 1, 1, 1)
    try:
        scheduler.set_timesteps(steps)
        if scheduler.timesteps.max() >= len(scheduler.betas):
            return "its steps lead beyond the last noise level"
        for time in scheduler.timesteps:
            scheduler.step(scheduler.scale_model_input(blank, time), time, blank)
    except _CANNOT as error:
        return " ".join(str(error).split())
    return None


def training_scheduler(options: Mapping[str, Any]) -> DDPMScheduler:
    """The same noise levels for training; every scheduler adds noise in the same way (Ho et al. 2020)."""
    shared = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "prediction_type",
        "rescale_betas_zero_snr",
    )
    return DDPMScheduler(**{name: options[name] for name in shared if name in options})


def _build(kind: Any, options: Mapping[str, Any], what: str) -> Any:
    own = {name: value for name, value in options.items() if not name.startswith("_")}
    try:
        return kind(**own)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"the {what}'s options do not fit {kind.__name__}: {reason}") from error
