"""InstructPix2Pix driven by super-links: the picture of the call, changed as the link says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from superlink.decoders.artifacts import Artifact, Picture
from superlink.decoders.contract import Call
from superlink.decoders.diffusion.config import InstructPix2PixConfig
from superlink.decoders.diffusion.decoder import DiffusionDecoder, DiffusionOutputs
from superlink.decoders.diffusion.inputs import (
    DiffusionInputs,
    Pixels,
    check_options,
    cropped_square,
    frame_of,
    guidance_option,
    side_option,
)
from superlink.decoders.diffusion.keeping import with_pixels_of
from superlink.decoders.diffusion.noise import Noise
from superlink.decoders.diffusion.sampling import Plan
from superlink.router.errors import InputError


class InstructPix2PixDecoder(DiffusionDecoder):
    """Edited pictures, in the size of the picture that was given."""

    def __init__(self, config: InstructPix2PixConfig, link_dim: int) -> None:
        super().__init__(config, link_dim)
        self.config: InstructPix2PixConfig = config
        if config.from_source:
            nn.init.zeros_(self.unet.conv_out.weight)
            nn.init.zeros_(self.unet.conv_out.bias)

    def source(self, call: Call) -> Pixels:
        """The last picture among the call's inputs, else its own.

        Raises:
            InputError: there is neither.
        """
        earlier = [one.pixels for one in call.inputs if isinstance(one, Picture)]
        if earlier:
            return earlier[-1]
        if call.image is None:
            raise InputError(f"call {call.id!r} has no picture to edit; give one with the question")
        return call.image

    def plan(self, call: Call, source: Pixels | None) -> Plan:
        config = self.config
        assert source is not None
        check_options(call, config.options)
        side = side_option(call, "side", config.side, multiple=config.multiple, most=config.max_side)
        return Plan(
            size=frame_of((source.shape[0], source.shape[1]), side=side, multiple=config.multiple),
            steps=self.steps(call),
            guidance=guidance_option(call, "guidance", config.guidance),
            image_guidance=guidance_option(call, "image_guidance", config.image_guidance),
        )

    @property
    def unchanged(self) -> float:
        # Latents are scaled where noise is added, and sources are not (Brooks et al. 2023).
        return float(self.vae.config.scaling_factor) if self.config.from_source else 0.0

    def square(self, pixels: Pixels, side: int) -> Pixels:
        return cropped_square(pixels, side)

    def postprocess(self, outputs: DiffusionOutputs, inputs: DiffusionInputs) -> list[Artifact]:
        """Edited pictures, each of the size of its source."""
        results = super().postprocess(outputs, inputs)
        if not self.config.keep_pixels:
            return results
        kept: list[Artifact] = []
        for row, (call, result) in enumerate(zip(inputs.calls, results, strict=True)):
            seen = self.encode_source(inputs.sources[row])
            again = self.vae.decode(seen, return_dict=False)[0]
            pixels = with_pixels_of(self.source(call), again, outputs.pictures[row])
            kept.append(Picture(pixels=pixels, origin=result.origin))
        return kept

    def drop(
        self, conditioning: Tensor, sources: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Of one uniform number u and the drop rate r: no words for u < 2r, no picture for r <= u < 3r.

        Source: Brooks et al. 2023, section 3.2.1.
        """
        rate = self.config.drop_rate
        if not rate:
            return conditioning, sources
        assert sources is not None
        drawn = noise.uniform().to(conditioning.device)
        without_words = (drawn < 2 * rate)[:, None, None]
        without_picture = ((drawn >= rate) & (drawn < 3 * rate))[:, None, None, None]
        conditioning = torch.where(without_words, self.empty().to(conditioning.dtype), conditioning)
        return conditioning, sources.masked_fill(without_picture, 0.0)
