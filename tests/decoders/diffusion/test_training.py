"""What the decoders learn from, against formulas written down again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from superlink.decoders.artifacts import Picture
from superlink.decoders.contract import Call
from superlink.decoders.diffusion.config import DiffusionConfig, LossWeights
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.inputs import cropped_square, padded_square
from superlink.decoders.diffusion.noise import SeededNoise
from superlink.router.links import LinkBatch
from tests.decoders.diffusion.painters import (
    DDIM,
    LINK_DIM,
    SIDE,
    byte_tokenizer,
    call_of,
    picture,
    small,
    small_editor,
    text_options,
)

BOTH = pytest.mark.parametrize("config", [small(), small_editor()], ids=["paint", "edit"])


def batch(config: DiffusionConfig, count: int = 3) -> tuple[list[Call], list[Picture]]:
    calls = [call_of(config, name=f"call {row}", seed=row + 1) for row in range(count)]
    return calls, [Picture(pixels=picture(SIDE, SIDE, seed=10 + row)) for row in range(count)]


def terms_of(
    decoder: DiffusionDecoder, calls: list[Call], targets: list[Picture], count: float | None = None
) -> dict[str, Tensor]:
    inputs = decoder.train().prepare(calls, targets)
    outputs = decoder(LinkBatch.of([call.links for call in calls]), inputs)
    return decoder.loss(outputs, inputs, count=count or decoder.count(inputs))


class FixedNoise:
    """Gives out uniform numbers that a test chose."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def normal(self, *shape: int) -> Tensor:
        raise AssertionError("not asked for here")

    below = normal

    def uniform(self) -> Tensor:
        return torch.tensor(self.values)


@BOTH
def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_calls(config: DiffusionConfig) -> None:
    decoder = replace(config, drop_rate=0.2).build(LINK_DIM)
    calls, targets = batch(config)
    whole = terms_of(decoder, calls, targets)["loss_noise"]
    alone = [
        terms_of(decoder, [call], [target])["loss_noise"] for call, target in zip(calls, targets, strict=True)
    ]
    torch.testing.assert_close(whole, torch.stack(alone).mean())
    # Two workers: each divides by the global count over the number of workers.
    shares = [terms_of(decoder, calls[:1], targets[:1], 1.5), terms_of(decoder, calls[1:], targets[1:], 1.5)]
    torch.testing.assert_close(torch.stack([one["loss_noise"] for one in shares]).mean(), whole)


@pytest.mark.parametrize(
    ("prediction", "gamma", "levels"),
    [
        ("epsilon", None, 1),
        ("epsilon", 2.0, 1),
        ("v_prediction", 2.0, 1),
        ("v_prediction", 2.0, 3),
        ("sample", None, 2),
        ("sample", 2.0, 1),
    ],
)
def test_the_noise_term_is_the_weighted_error_of_what_the_network_says(
    prediction: str, gamma: float | None, levels: int
) -> None:
    config = small(scheduler={**DDIM, "prediction_type": prediction}, snr_gamma=gamma, levels=levels)
    decoder = config.build(LINK_DIM)
    calls, targets = batch(config)
    inputs = decoder.train().prepare(calls, targets)
    seen: list[Tensor] = []
    decoder.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    outputs = decoder(LinkBatch.of([call.links for call in calls]), inputs)
    assert outputs.denoised is not None
    # Written down again: linear betas (DDIM's default), x_t = sqrt(a) x_0 + sqrt(1 - a) e.
    betas = torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)
    alphas = (1 - betas).cumprod(0)[outputs.denoised.times]
    signal, spread = alphas.sqrt()[:, None, None, None], (1 - alphas).sqrt()[:, None, None, None]
    noise = SeededNoise([call.seed for call in calls])
    first, *more = (noise.normal(4, SIDE // 2, SIDE // 2) for _ in range(1 + levels))
    added = torch.cat(more)
    assert inputs.lesson is not None
    with torch.no_grad():
        posterior = decoder.vae.encode(inputs.lesson.pictures, return_dict=False)[0]
    latents = ((posterior.mean + posterior.std * first) * 0.18215).repeat(levels, 1, 1, 1)
    torch.testing.assert_close(seen[0].double(), signal * latents + spread * added, atol=1e-5, rtol=1e-5)
    goals = {"epsilon": added, "v_prediction": signal * added - spread * latents, "sample": latents}
    goal = goals[prediction].double()
    torch.testing.assert_close(outputs.denoised.goal.double(), goal, atol=1e-5, rtol=1e-5)
    ratio = alphas / (1 - alphas)
    weight = torch.ones_like(ratio)
    if gamma is not None:
        over = {"epsilon": ratio, "v_prediction": ratio + 1, "sample": torch.ones_like(ratio)}
        weight = ratio.clamp(max=gamma) / over[prediction]
    error = ((outputs.denoised.predicted.double() - goal) ** 2).mean((1, 2, 3))
    found = decoder.loss(outputs, inputs, count=3.0)["loss_noise"]
    torch.testing.assert_close(found.double(), (weight * error).mean(), atol=1e-5, rtol=1e-5)


@BOTH
def test_several_noise_levels_of_a_picture_are_evenly_spread(config: DiffusionConfig) -> None:
    decoder = replace(config, levels=4).build(LINK_DIM)
    calls, targets = batch(config)
    inputs = decoder.train().prepare(calls, targets)
    denoised = decoder(LinkBatch.of([call.links for call in calls]), inputs).denoised
    assert denoised is not None
    levels = len(decoder.noise_levels.alphas_cumprod)
    quarter = levels // 4
    for times in denoised.times.view(4, len(calls)).T.tolist():
        assert times == [(times[0] + quarter * k) % levels for k in range(4)]


def test_an_editor_leaves_out_words_both_and_pictures_each_at_its_rate() -> None:
    decoder = small_editor(drop_rate=0.1).build(LINK_DIM)
    with torch.no_grad():
        decoder.get_parameter("no_words").fill_(-1.0)
    words, sources = torch.ones(5, 10, 16), torch.ones(5, 4, 8, 8)
    kept, looked_at = decoder.drop(words, sources, FixedNoise([0.05, 0.15, 0.25, 0.3, 0.9]))
    assert kept[:, 0, 0].tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0]
    assert looked_at is not None
    assert looked_at[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.0, 1.0, 1.0]


def test_a_painter_leaves_out_words_at_twice_its_rate() -> None:
    decoder = small(drop_rate=0.1).build(LINK_DIM)
    kept, sources = decoder.drop(torch.ones(3, 10, 16), None, FixedNoise([0.1, 0.19, 0.21]))
    assert kept[:, 0, 0].tolist() == [0.0, 0.0, 1.0]
    assert sources is None


def test_what_no_words_look_like_is_learned_without_a_text_encoder() -> None:
    config = small(drop_rate=0.5)
    decoder = config.build(LINK_DIM)
    terms_of(decoder, *batch(config))["loss_noise"].backward()
    grad = decoder.get_parameter("no_words").grad
    assert grad is not None
    assert float(grad.abs().sum()) > 0


@pytest.mark.parametrize("config", [small(), small_editor()], ids=["paint", "edit"])
def test_the_autoencoder_never_learns_and_the_network_only_where_configured(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    terms_of(decoder, *batch(config))["loss_noise"].backward()
    assert all(parameter.grad is None for parameter in decoder.vae.parameters())
    learned = {parameter.grad is not None for parameter in decoder.unet.parameters()}
    assert learned == {config.train_unet}


def captioned(tmp_path: Path, **changes: Any) -> DiffusionConfig:
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    empty = tuple(tokenizer("", padding="max_length")["input_ids"])
    return small(text_encoder=text_options(), empty_caption=empty, tokenizer=str(tmp_path), **changes)


def test_the_caption_term_is_the_distance_to_the_text_encoder_where_there_are_words(tmp_path: Path) -> None:
    config = captioned(tmp_path)
    decoder = config.build(LINK_DIM)
    calls, targets = batch(config)
    calls[1] = replace(calls[1], links=call_of(config, phrase="").links)
    inputs = decoder.train().prepare(calls, targets)
    outputs = decoder(LinkBatch.of([call.links for call in calls]), inputs)
    ids = byte_tokenizer()(["a star"], padding="max_length", return_tensors="pt")["input_ids"]
    assert decoder.text_encoder is not None
    with torch.no_grad():
        features = decoder.text_encoder(ids).last_hidden_state
    apart = ((outputs.conditioning - features) ** 2).mean((1, 2))
    found = decoder.loss(outputs, inputs, count=3.0)["loss_caption"]
    torch.testing.assert_close(found, (apart[0] + apart[2]) / 3)
    found.backward()
    assert all(parameter.grad is None for parameter in decoder.text_encoder.parameters())
    assert decoder.weights == {"loss_noise": 1.0, "loss_caption": 0.1}


def test_without_its_weight_there_is_no_caption_term_and_no_tokenizer_is_needed(tmp_path: Path) -> None:
    config = replace(captioned(tmp_path), weights=LossWeights(caption=0.0), tokenizer=None)
    decoder = config.build(LINK_DIM)
    assert set(terms_of(decoder, *batch(config))) == {"loss_noise"} == set(decoder.weights)


def test_the_draws_of_a_call_follow_from_its_seed_alone() -> None:
    alone, together = SeededNoise([5]), SeededNoise([4, 5, 6])
    for one, three in zip(
        (alone.normal(2, 3), alone.below(1000), alone.uniform()),
        (together.normal(2, 3), together.below(1000), together.uniform()),
        strict=True,
    ):
        assert torch.equal(one[0], three[1])


def test_what_is_left_out_does_not_depend_on_the_side_that_is_trained_at() -> None:
    seeds = range(1, 20)
    small_side, large_side = SeededNoise(seeds), SeededNoise(seeds)
    small_side.normal(4, 8, 8)
    large_side.normal(4, 16, 16)
    assert torch.equal(small_side.uniform(), large_side.uniform())


def test_squares_hold_the_whole_picture_or_its_middle() -> None:
    wide = np.zeros((4, 8, 3), dtype=np.uint8)
    wide[:, 2:6] = 100
    padded = padded_square(wide, 8)
    assert padded.shape == (8, 8, 3)
    assert (padded[:2] == 255).all()
    assert (padded[6:] == 255).all()
    assert np.array_equal(padded[2:6], wide)
    assert (cropped_square(wide, 4) == 100).all()
