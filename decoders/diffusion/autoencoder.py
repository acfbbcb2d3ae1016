"""An autoencoder's own lesson: pictures shown to itself again, then latents of the scale its config names.

Published painters come with a trained autoencoder, which stays as it is. One with fresh weights learns
first and is settled once; from then on it is frozen like any other.

Axes: N pictures, C latent channels, h x w latent cells.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from superlink.decoders.diffusion.losses import mean_square
from superlink.decoders.diffusion.noise import Noise
from superlink.decoders.diffusion.waves import begin_as_waves, can_begin_as_waves
from superlink.router.errors import InputError, ModelError

# Logarithm of the first variances; about 0, as it is by chance, noise drowns what there is to learn.
QUIET = -6.0


def begin(vae: AutoencoderKL) -> None:
    """Fresh weights that learn fast: orthogonal layers, residual branches that add nothing, quiet latents.

    Where there is room for it, the encoder is the cosine transform of its cells: see `waves`.

    Sources: Saxe et al. 2014; Goyal et al. 2017, section 5.1 (there for norms, here for convolutions).

    Raises:
        ModelError: the autoencoder has no layers of its own at the ends of the latents.
    """
    last, _ = quant_layers(vae)
    for layer in vae.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    for block in vae.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
    for attention in (*vae.encoder.mid_block.attentions, *vae.decoder.mid_block.attentions):
        nn.init.zeros_(attention.to_out[0].weight)
        nn.init.zeros_(attention.to_out[0].bias)
    assert last.bias is not None
    with torch.no_grad():
        means = last.out_channels // 2
        last.weight[means:] = 0.0
        last.bias[means:] = QUIET
    if can_begin_as_waves(vae):
        begin_as_waves(vae)


def shown_again(vae: AutoencoderKL, pictures: Tensor, noise: Noise, *, kl: float) -> Tensor:
    """(N,) squared error of the pictures as they come back, and a small penalty of their latents.

    Args:
        pictures: (N, 3, H, W) in [-1, 1].
        noise: N rows, of which each picture's latents are drawn.
        kl: weight of the mean divergence of a latent value from the standard normal distribution.

    Source: Rombach et al. 2022, section 3.1 and appendix G ("KL-reg"), without its perceptual and
    adversarial terms, which need networks that are trained already.
    """
    spread = vae.encode(pictures.to(vae.dtype), return_dict=False)[0]
    mean = spread.mean
    drawn = mean + spread.std * noise.normal(*mean.shape[1:]).to(mean)
    found = vae.decode(drawn, return_dict=False)[0]
    divergence: Tensor = spread.kl().float() / mean[0].numel()
    return mean_square(found, pictures) + kl * divergence


@torch.no_grad()
def settle(vae: AutoencoderKL, pictures: Iterable[Tensor]) -> None:
    """Centre the latents of these pictures, channel by channel, and bring their spread to 1 / scaling_factor.

    The layers at the two ends of the latents take it in, and pictures come back as they did. So weights
    carry the scale, in checkpoints and model folders, and `scaling_factor` stays what the config says:
    it is true for training, sampling and the pictures to edit, whose latents are not scaled
    (Brooks et al. 2023). That latents should have a standard deviation of 1: Rombach et al. 2022, appendix G.

    Args:
        pictures: batches of (N, 3, H, W) in [-1, 1].

    Raises:
        InputError: there is no picture, or all look the same.
        ModelError: the autoencoder has no layers of its own at the ends of the latents.
    """
    last, first = quant_layers(vae)
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in pictures:
        spread = vae.encode(batch.to(vae.dtype), return_dict=False)[0]
        mean, variance = (one.double().transpose(0, 1).flatten(1).cpu() for one in (spread.mean, spread.var))
        count += mean.shape[1]
        # Of latents as they are drawn: mean + std * noise.
        total, squares = total + mean.sum(1), squares + (mean.square() + variance).sum(1)
    if not count:
        raise InputError("the latents' scale is measured on pictures, and there is none")
    centre = total / count
    deviation = float((squares / count - centre.square()).mean().sqrt())
    if not deviation > 0:
        raise InputError("the latents' scale cannot be measured: every latent has the same value")
    assert first.bias is not None
    assert last.bias is not None
    factor, shift = deviation * vae.config.scaling_factor, centre.to(last.bias)
    channels = len(shift)
    first.bias += first.weight.flatten(1) @ shift
    first.weight *= factor
    last.bias[:channels] -= shift
    last.weight[:channels] /= factor
    last.bias[:channels] /= factor
    last.bias[channels:] -= 2 * torch.tensor(factor).log().to(shift)  # logarithms of variances


def quant_layers(vae: AutoencoderKL) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The 1 x 1 layers that give and take latents.

    Raises:
        ModelError: there are none.
    """
    last, first = vae.quant_conv, vae.post_quant_conv
    if not isinstance(last, nn.Conv2d) or not isinstance(first, nn.Conv2d):
        raise ModelError(
            "an autoencoder that learns needs 1 x 1 layers; leave use_quant_conv and use_post_quant_conv on"
        )
    return last, first
