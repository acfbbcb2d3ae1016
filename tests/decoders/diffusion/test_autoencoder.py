"""The autoencoder's own lesson: what it costs, and latents of the right scale after it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion.autoencoder import begin, settle
from superlink.decoders.diffusion.config import DiffusionConfig, LossWeights
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.inputs import DiffusionInputs, to_tensor
from superlink.decoders.diffusion.layers import build_vae
from superlink.decoders.diffusion.noise import SeededNoise
from superlink.router.errors import DecoderError, InputError, ModelError
from tests.decoders.diffusion.painters import LINK_DIM, SIDE, VAE, call_of, picture, small, small_editor

BOTH = pytest.mark.parametrize("config", [small(), small_editor()], ids=["paint", "edit"])


def lessons(decoder: DiffusionDecoder, count: int, first: int = 0) -> list[DiffusionInputs]:
    """One call each."""
    calls = [call_of(decoder.config, name=f"call {row}", seed=row + 1) for row in range(first, first + count)]
    targets = [Picture(pixels=picture(SIDE, SIDE, seed=10 + row)) for row in range(first, first + count)]
    return [decoder.prepare([call], [target]) for call, target in zip(calls, targets, strict=True)]


def many(count: int, first: int) -> Tensor:
    """(count, 3, SIDE, SIDE)."""
    return torch.cat([to_tensor(picture(SIDE, SIDE, seed=first + row)) for row in range(count)])


def opened(vae: torch.nn.Module) -> torch.nn.Module:
    """With latents far from the middle and of a wide spread, as after training."""
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.startswith("quant_conv"):
                parameter.mul_(4.0).add_(0.7)
    return vae


@BOTH
def test_the_term_is_the_error_of_pictures_that_come_back_and_a_small_divergence(
    config: DiffusionConfig,
) -> None:
    decoder = replace(config, weights=LossWeights(kl=0.5)).build(LINK_DIM)
    calls = [call_of(config, name=f"call {row}", seed=row + 1) for row in range(3)]
    targets = [Picture(pixels=picture(SIDE, SIDE, seed=10 + row)) for row in range(3)]
    inputs = decoder.prepare(calls, targets)
    assert decoder.count(inputs) == 3.0
    shown = [target.pixels for target in targets]
    if config.needs_image:  # the answer is nearly the same
        shown = [call.image for call in calls if call.image is not None]
    pictures = torch.cat([to_tensor(one) for one in shown])
    noise = SeededNoise([call.seed for call in calls])
    with torch.no_grad():
        # Written down again: z = mu + s e, and KL(N(mu, s^2) | N(0, 1)) of one value.
        mean, logvar = decoder.vae.quant_conv(decoder.vae.encoder(pictures)).chunk(2, dim=1)
        drawn = mean + (logvar / 2).exp() * noise.normal(4, SIDE // 2, SIDE // 2)
        found = decoder.vae.decoder(decoder.vae.post_quant_conv(drawn))
        divergence = (mean**2 + logvar.exp() - 1 - logvar) / 2
        expected = ((found - pictures) ** 2).mean() + 0.5 * divergence.mean()
        found = decoder.pictures_loss(inputs, count=3.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_the_term_of_a_batch_is_the_mean_of_those_of_its_calls(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    calls = [call_of(config, name=f"call {row}", seed=row + 1) for row in range(3)]
    targets = [Picture(pixels=picture(SIDE, SIDE, seed=10 + row)) for row in range(3)]
    whole = decoder.pictures_loss(decoder.prepare(calls, targets), count=3.0)
    alone = [decoder.pictures_loss(one, count=1.0) for one in lessons(decoder, 3)]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


@BOTH
def test_pictures_without_targets_are_no_lesson(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    with pytest.raises(DecoderError, match=r"prepare\(calls, targets\) before pictures_loss"):
        decoder.pictures_loss(decoder.prepare([call_of(config)]), count=1.0)


@pytest.mark.parametrize("factor", [1.0, 0.18215])
def test_other_pictures_have_latents_of_the_configured_scale(factor: float) -> None:
    torch.manual_seed(1)
    vae = build_vae({**VAE, "scaling_factor": factor})
    opened(vae)
    settle(vae, many(128, 0).split(16))
    with torch.no_grad():
        latents = vae.encode(many(128, 1000)).latent_dist.sample(torch.Generator().manual_seed(0)) * factor
    channels = latents.transpose(0, 1).flatten(1)
    assert abs(float((channels - channels.mean(1, keepdim=True)).square().mean().sqrt()) - 1) < 0.05
    assert float(channels.mean(1).abs().max()) < 0.1


def test_pictures_come_back_as_before_once_the_scale_is_right() -> None:
    torch.manual_seed(2)
    vae = build_vae(VAE)
    opened(vae)
    shown = many(4, 0)
    with torch.no_grad():
        before = vae.decode(vae.encode(shown).latent_dist.mode()).sample
        noise = [vae.encode(shown).latent_dist.std / vae.encode(shown).latent_dist.mean.std()]
        settle(vae, [shown])
        after = vae.decode(vae.encode(shown).latent_dist.mode()).sample
        noise.append(vae.encode(shown).latent_dist.std / vae.encode(shown).latent_dist.mean.std())
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert noise[1].mean() > 0
    settled = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    settle(vae, [shown])  # and again changes nothing
    torch.testing.assert_close(vae.state_dict(), settled, atol=1e-5, rtol=1e-4)


def test_an_editor_sees_its_sources_at_the_same_scale_as_its_answers() -> None:
    torch.manual_seed(3)
    decoder = small_editor(vae={**VAE, "scaling_factor": 1.0}).build(LINK_DIM)
    opened(decoder.vae)
    with torch.no_grad():  # hardly any noise of their own: the mode is the latent
        decoder.vae.quant_conv.bias[4:] = -12.0
        decoder.vae.quant_conv.weight[4:] = 0.0
    pictures = many(64, 0)
    settle(decoder.vae, [pictures])
    sources = decoder.encode_source(pictures)
    centred = sources - sources.mean((0, 2, 3), keepdim=True)
    assert float(centred.square().mean().sqrt()) == pytest.approx(1.0, rel=0.01)


def test_it_begins_with_quiet_latents_that_tell_pictures_apart() -> None:
    torch.manual_seed(4)
    vae = build_vae(VAE)
    begin(vae)
    with torch.no_grad():
        spread = vae.encode(many(8, 0)).latent_dist
    torch.testing.assert_close(spread.std, torch.full_like(spread.std, 0.0498), atol=1e-4, rtol=0)
    assert float(spread.mean.std(0).mean()) > 5 * 0.0498
    inner = vae.encoder.conv_in.weight.flatten(1)  # 8 rows of 27
    torch.testing.assert_close(inner @ inner.T, torch.eye(8), atol=1e-5, rtol=0)


def test_a_scale_needs_pictures_and_layers_that_take_it_in() -> None:
    with pytest.raises(InputError, match="there is none"):
        settle(build_vae(VAE), [])
    with pytest.raises(ModelError, match="use_quant_conv"):
        settle(build_vae({**VAE, "use_quant_conv": False}), [many(2, 0)])
    with pytest.raises(ModelError, match="use_quant_conv"):
        begin(build_vae({**VAE, "use_post_quant_conv": False}))
