"""Stable Diffusion and InstructPix2Pix driven by super-links.

Rombach et al. 2022 and Brooks et al. 2023, with the link mapper of VisionLLM v2 (Wu et al. 2024).
Networks and schedulers come from diffusers, the text encoder from transformers; this package owns
what stands between them and the links.
"""

from superlink.decoders.diffusion.config import (
    DiffusionConfig,
    InstructPix2PixConfig,
    LossWeights,
    StableDiffusionConfig,
)

__all__ = ["DiffusionConfig", "InstructPix2PixConfig", "LossWeights", "StableDiffusionConfig"]
