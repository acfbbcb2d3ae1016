"""Small diffusion decoders, diffusers pipelines and calls for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from superlink.decoders.artifacts import Artifact, Picture
from superlink.decoders.contract import Call
from superlink.decoders.diffusion.config import (
    DiffusionConfig,
    InstructPix2PixConfig,
    StableDiffusionConfig,
    edit_routes,
    generation_routes,
)
from superlink.decoders.diffusion.decoder import DiffusionDecoder, DiffusionOutputs
from superlink.decoders.diffusion.layers import build_scheduler
from superlink.router.links import LinkBatch, SuperLink
from superlink.router.tokens import LinkKind

LINK_DIM = 16
LENGTH = 10  # of captions and conditioning
WIDTH = 16
SIDE = 16
VAE = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": SIDE,
}
DDIM = {"_class_name": "DDIMScheduler", "num_train_timesteps": 100, "clip_sample": False, "steps_offset": 1}
EULER = {"_class_name": "EulerAncestralDiscreteScheduler", "num_train_timesteps": 100, "steps_offset": 1}


def unet(in_channels: int) -> dict[str, Any]:
    return {
        "sample_size": SIDE // 2,
        "in_channels": in_channels,
        "out_channels": 4,
        "block_out_channels": [8, 16],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }


def small(**changes: Any) -> StableDiffusionConfig:
    """Makes pictures; no text encoder unless `changes` bring one."""
    config = StableDiffusionConfig(
        routes=generation_routes(3),
        unet=unet(4),
        vae=VAE,
        scheduler=DDIM,
        text_encoder=None,
        num_queries=LENGTH,
        mapper_heads=2,
        side=SIDE,
        max_side=4 * SIDE,
        steps=2,
        drop_rate=0.0,
    )
    return replace(config, **changes)


def small_editor(**changes: Any) -> InstructPix2PixConfig:
    """Edits pictures; no text encoder unless `changes` bring one."""
    config = InstructPix2PixConfig(
        routes=edit_routes(3),
        unet=unet(8),
        vae=VAE,
        scheduler=EULER,
        text_encoder=None,
        num_queries=LENGTH,
        mapper_heads=2,
        side=SIDE,
        train_side=None,
        max_side=4 * SIDE,
        steps=2,
        drop_rate=0.0,
    )
    return replace(config, **changes)


def text_options() -> dict[str, Any]:
    return {
        "vocab_size": 514,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "bos_token_id": 512,
        "eos_token_id": 513,
        "pad_token_id": 513,
    }


def byte_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer whose words are single characters."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs = [chr(code) for code in kept] + [chr(256 + index) for index in range(256 - len(kept))]
    words = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH)


def save_pipeline(folder: Path, scheduler: Mapping[str, Any], *, edits: bool) -> Any:
    """A pipeline with random weights, written by diffusers itself."""
    torch.manual_seed(0)
    kind = StableDiffusionInstructPix2PixPipeline if edits else StableDiffusionPipeline
    pipeline = kind(
        vae=AutoencoderKL(**VAE),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text_options())).eval(),
        tokenizer=byte_tokenizer(),
        unet=UNet2DConditionModel(**unet(8 if edits else 4)),
        scheduler=build_scheduler(scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.eval()
    pipeline.unet.eval()
    pipeline.save_pretrained(folder)
    return pipeline


def picture(*size: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3) of smooth colours."""
    rng = np.random.default_rng(seed)
    height, width = size
    corners = rng.uniform(0, 255, (2, 2, 3))
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top = corners[0, 0] * (1 - right) + corners[0, 1] * right
    bottom = corners[1, 0] * (1 - right) + corners[1, 1] * right
    return np.asarray((top * (1 - down) + bottom * down).astype(np.uint8))


def call_of(
    config: DiffusionConfig,
    *,
    name: str = "call",
    phrase: str = "a star",
    size: tuple[int, int] = (SIDE, SIDE),
    seed: int = 1,
    **more: Any,
) -> Call:
    """A call with links that follow from `name`; editors get a picture of `size`."""
    token = config.routes[0].token
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    embeddings = torch.randn(token.num_links, LINK_DIM, generator=generator)
    link = SuperLink(token=token, embeddings=embeddings, phrase=phrase, position=0)
    given: dict[str, Any] = {"image": picture(*size), "image_id": "picture"} if config.needs_image else {}
    return Call(id=name, links=(link,), seed=seed, **(given | more))


def of_kind(config: DiffusionConfig, kind: LinkKind) -> DiffusionConfig:
    """The same decoder for links of another kind."""
    (route,) = config.routes
    token = replace(route.token, kind=kind, num_links=1)
    return replace(config, routes=(replace(route, token=token),))


def run(decoder: DiffusionDecoder, calls: Sequence[Call]) -> DiffusionOutputs:
    with torch.inference_mode():
        outputs: DiffusionOutputs = decoder.eval()(
            LinkBatch.of([call.links for call in calls]), decoder.prepare(calls)
        )
    return outputs


def answers(decoder: DiffusionDecoder, calls: Sequence[Call]) -> list[Picture]:
    found: list[Artifact] = decoder.postprocess(run(decoder, calls), decoder.prepare(calls))
    assert all(isinstance(one, Picture) for one in found)
    return [one for one in found if isinstance(one, Picture)]
