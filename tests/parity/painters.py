"""Diffusion decoders with the recorded sizes of a case, and its recorded links, pictures and draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from superlink.decoders.contract import Call
from superlink.decoders.diffusion import sampling
from superlink.decoders.diffusion.config import DiffusionConfig, InstructPix2PixConfig, StableDiffusionConfig
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.inputs import DiffusionInputs, Lesson
from superlink.decoders.diffusion.keymap import config_from_published, load_published
from superlink.decoders.diffusion.layers import scheduler_class
from superlink.decoders.diffusion.sampling import Plan
from superlink.router.links import LinkBatch, SuperLink
from tests.parity.fixtures import Case, Tensors


def recorded_config(case: Case, inputs: Tensors) -> DiffusionConfig:
    """The configuration of `meta.json`."""
    parts = case.meta["subconfigs"]
    constants = dict(parts["scheduler"])
    scheduler = {"_class_name": constants.pop("inference_class"), **constants}
    trained = case.meta["training_scheduler_config"]
    if trained["_class_name"] == scheduler["_class_name"]:
        defaults = ("_class_name", "_diffusers_version", "_use_default_values")
        scheduler |= {name: value for name, value in trained.items() if name not in defaults}
    kind = InstructPix2PixConfig if "input_images" in inputs else StableDiffusionConfig
    base = kind(
        unet=parts["unet"],
        vae=parts["vae"],
        scheduler=scheduler,
        text_encoder=parts["text_encoder"],
        empty_caption=tuple(inputs["empty_caption_token_ids"][0].tolist()),
        num_queries=case.config["num_queries"],
        side=inputs["output_images"].shape[-1],
        train_side=None,
        drop_rate=0.0,
    )
    return config_from_published(base, case.config)


def recorded_decoder(case: Case, inputs: Tensors, weights: Tensors) -> DiffusionDecoder:
    decoder = recorded_config(case, inputs).build(case.config["llm_hidden_size"])
    load_published(decoder, weights)
    return decoder.eval()


def triggers(case: Case, inputs: Tensors) -> tuple[Tensor, Tensor]:
    """Row and position of every routing token."""
    row, position = (inputs["input_ids"] == case.config["trigger_token_id"]).nonzero(as_tuple=True)
    return row, position


def recorded_links(case: Case, inputs: Tensors) -> LinkBatch:
    """The hidden states after every routing token."""
    count = case.config["num_embed_tokens"]
    links = [
        inputs["hidden_states"][row, position + 1 : position + 1 + count]
        for row, position in zip(*triggers(case, inputs), strict=True)
    ]
    mask = torch.ones(len(links), 1, dtype=torch.bool)
    return LinkBatch(embeddings=torch.stack(links)[:, None], mask=mask)


class RecordedDraws:
    """Gives out `rand.NN.*` in their order instead of drawing."""

    def __init__(self, tensors: Tensors, prefix: str = "rand.") -> None:
        self._draws: Iterator[Tensor] = iter(
            [tensors[name] for name in sorted(tensors) if name.startswith(prefix)]
        )

    def normal(self, *shape: int) -> Tensor:
        drawn = next(self._draws)
        assert drawn.shape[1:] == shape, f"recorded {tuple(drawn.shape)}"
        return drawn

    def below(self, limit: int) -> Tensor:
        drawn = next(self._draws)
        assert int(drawn.max()) < limit
        return drawn

    def uniform(self) -> Tensor:
        return next(self._draws).flatten()

    def exhausted(self) -> bool:
        return next(self._draws, None) is None


def training_inputs(
    case: Case, decoder: DiffusionDecoder, inputs: Tensors, *, captions: bool = True
) -> tuple[DiffusionInputs, RecordedDraws]:
    rows, _ = triggers(case, inputs)
    draws = RecordedDraws(inputs)
    lesson = Lesson(
        pictures=inputs["output_images"][rows],
        sources=inputs["input_images"][rows] if "input_images" in inputs else None,
        captioned=torch.full((len(rows),), captions),
        noise=draws,
    )
    found = DiffusionInputs(
        calls=(), plans=(), sources=(), sizes=(), captions=inputs["caption_token_ids"][rows], lesson=lesson
    )
    return found, draws


def serving_inputs(case: Case, decoder: DiffusionDecoder, inputs: Tensors) -> DiffusionInputs:
    """The recorded run: its step count and guidance, at the size of its pictures."""
    rows, _ = triggers(case, inputs)
    run: dict[str, Any] = case.meta["run"]
    height, width = (side * decoder.config.multiple for side in inputs["run.latents"].shape[-2:])
    plan = Plan(
        size=(height, width),
        steps=run["num_inference_steps"],
        guidance=run["guidance_scale"],
        image_guidance=run.get("image_guidance_scale"),
    )
    token = decoder.config.routes[0].token
    link = SuperLink(
        token=token, embeddings=torch.zeros(token.num_links, decoder.link_dim), phrase="", position=0
    )
    sources = inputs["input_images"][rows].split(1) if "input_images" in inputs else ()
    return DiffusionInputs(
        calls=tuple(Call(id=f"call {row}", links=(link,)) for row in range(len(rows))),
        plans=(plan,) * len(rows),
        sources=tuple(sources),
        sizes=(plan.size,) * len(rows),
        captions=None,
        lesson=None,
    )


def give_recorded_noise(
    monkeypatch: pytest.MonkeyPatch, decoder: DiffusionDecoder, inputs: Tensors
) -> RecordedDraws:
    """First latents and every draw of the scheduler from the recording."""
    monkeypatch.setattr(sampling, "randn_tensor", lambda *_, **__: inputs["run.latents"])
    draws = RecordedDraws(inputs, "run.rand.")
    module = scheduler_class(decoder.config.scheduler).__module__
    monkeypatch.setattr(f"{module}.randn_tensor", lambda shape, **_: draws.normal(*shape[1:]), raising=False)
    return draws
