"""Stable Diffusion driven by super-links: a picture of what the link says."""

from __future__ import annotations

import torch
from torch import Tensor

from superlink.decoders.contract import Call
from superlink.decoders.diffusion.config import StableDiffusionConfig
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.inputs import (
    Pixels,
    check_options,
    guidance_option,
    padded_square,
    side_option,
)
from superlink.decoders.diffusion.noise import Noise
from superlink.decoders.diffusion.sampling import Plan


class StableDiffusionDecoder(DiffusionDecoder):
    """Pictures from links alone."""

    def __init__(self, config: StableDiffusionConfig, link_dim: int) -> None:
        super().__init__(config, link_dim)
        self.config: StableDiffusionConfig = config

    def source(self, call: Call) -> Pixels | None:
        return None

    def plan(self, call: Call, source: Pixels | None) -> Plan:
        config = self.config
        check_options(call, config.options)
        height, width = (
            side_option(call, name, config.side, multiple=config.multiple, most=config.max_side)
            for name in ("height", "width")
        )
        return Plan(
            size=(height, width),
            steps=self.steps(call),
            guidance=guidance_option(call, "guidance", config.guidance),
        )

    def square(self, pixels: Pixels, side: int) -> Pixels:
        return padded_square(pixels, side)

    def drop(
        self, conditioning: Tensor, sources: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """No words for twice the drop rate, as published."""
        rate = self.config.drop_rate
        if rate:
            left_out = (noise.uniform() < 2 * rate).to(conditioning.device)
            conditioning = torch.where(
                left_out[:, None, None], self.empty().to(conditioning.dtype), conditioning
            )
        return conditioning, sources
