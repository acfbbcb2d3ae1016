"""Both decoders in a size that two CPU cores can train: 128 pixels, about six million parameters.

The U-Net works on 16 x 16 latent cells of 16 channels and reads links where maps are small. A picture
of 10 steps takes about half a second of one core, an edit of 3 takes less. There is no text encoder:
what no words look like is learned.
"""

from __future__ import annotations

from typing import Any

from superlink.decoders.diffusion.config import (
    InstructPix2PixConfig,
    LossWeights,
    StableDiffusionConfig,
    edit_routes,
    generation_routes,
)

LATENT_CHANNELS = 16
SIDE = 128
_CELL = 8  # pixels of a latent cell


def tiny_stable_diffusion(*, num_links: int = 64) -> StableDiffusionConfig:
    """Pictures of 128 x 128 pixels from links."""
    # What is asked for also reaches every block, pooled, beside the time: colours of all cells at once.
    pooled = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}
    return StableDiffusionConfig(
        routes=generation_routes(num_links),
        unet={**_unet(LATENT_CHANNELS), **pooled},
        # Noisier than a cosine: cells tell a colour through much noise, and only where they do not, what
        # is asked for decides.
        scheduler=_scheduler("linear"),
        guidance=2.0,
        train_unet=True,
        **_shared(),
    )


def tiny_instruct_pix2pix(*, num_links: int = 64) -> InstructPix2PixConfig:
    """Edits of pictures, seen at a longest side of 128 pixels, of which most is to stay as it is."""
    return InstructPix2PixConfig(
        routes=edit_routes(num_links),
        unet=_unet(2 * LATENT_CHANNELS),
        scheduler=_scheduler("squaredcos_cap_v2", prediction_type="sample"),
        from_source=True,
        keep_pixels=True,
        # An order leaves little open, so few steps without guidance are enough.
        guidance=1.0,
        image_guidance=1.0,
        weights=LossWeights(change=1.0),
        **{**_shared(), "steps": 3, "drop_rate": 0.0, "levels": 2},
    )


def _scheduler(beta_schedule: str, *, prediction_type: str = "v_prediction") -> dict[str, Any]:
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": beta_schedule,
        "prediction_type": prediction_type,
        "timestep_spacing": "trailing",
        "clip_sample": False,
    }


def _shared() -> dict[str, Any]:
    return {
        "vae": {
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [24, 32, 64, 96],
            "layers_per_block": 1,
            "latent_channels": LATENT_CHANNELS,
            "norm_num_groups": 8,
            "sample_size": SIDE,
            "scaling_factor": 1.0,
        },
        "text_encoder": None,
        "num_queries": 16,
        "mapper_heads": 4,
        "mapper_ffn_dim": 192,
        "side": SIDE,
        "train_side": None,
        "max_side": 2 * SIDE,
        "steps": 10,
        "drop_rate": 0.05,
        "levels": 4,
    }


def _unet(in_channels: int) -> dict[str, Any]:
    return {
        "sample_size": SIDE // _CELL,
        "in_channels": in_channels,
        "out_channels": LATENT_CHANNELS,
        "block_out_channels": [56, 80, 112],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": 96,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
