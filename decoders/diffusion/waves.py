"""An encoder that begins as the cosine transform of its cells, instead of learning one from nothing.

The channels of a latent cell are then the mean and the lowest waves of the pixels it stands for: with 16
channels, of brightness up to the third, of two colour differences up to the first. Convolutions pass them on,
level by level, and residual branches add nothing yet. The last normalisation would take each picture's means
away, so its groups get channels of a large constant, next to which what they carry hardly changes their
statistics; and since silu(x) - silu(-x) = x, pairs of opposite sign pass the activation as they are.

Sources: Ahmed, Natarajan, Rao 1974 (the transform); Ohta, Kanade, Sakai 1980 (brightness and two colour
differences as the main axes of colour pictures).
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

# Brightness, red against blue, green against both.
_COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
# Standard deviations of their means over 8 x 8 pixels and of their first waves, in drawn and photographed
# scenes about so; the k-th waves have 1 / k of it.
_MEANS = (8.0, 2.3, 1.9)
_WAVES = (1.3, 0.6, 0.6)
# Next to values of about 1: their squares change the deviation of a group by about a hundredth.
_LARGE = 20.0


def can_begin_as_waves(vae: AutoencoderKL) -> bool:
    """Whether this encoder has the layers and the room that `begin_as_waves` needs."""
    blocks, widths = vae.encoder.down_blocks, list(vae.config.block_out_channels)
    latents, colours = vae.config.latent_channels, len(_COLOURS)
    cell = 2 ** (len(widths) - 1)
    room = widths[-1] // vae.config.norm_num_groups - 2 * _pairs(vae)
    return (
        len(widths) > 1
        and vae.config.in_channels == colours <= widths[0]
        and latents <= min(widths[-2], colours * cell * cell)
        and widths == sorted(widths)
        and blocks[-1].resnets[0].conv_shortcut is not None
        and room >= 2
        and room % 2 == 0
    )


@torch.no_grad()
def begin_as_waves(vae: AutoencoderKL) -> None:
    """Weights with which the means of a picture's latents are the lowest waves of its cells.

    Only layers that lead there change; residual branches and attention must add nothing.

    Args:
        vae: one that `can_begin_as_waves`.
    """
    blocks, widths = vae.encoder.down_blocks, list(vae.config.block_out_channels)
    waves = lowest_waves(vae.config.latent_channels, 2 ** (len(widths) - 1))
    colours = torch.tensor(_COLOURS, dtype=torch.float64)
    _lead(vae.encoder.conv_in, {(1, 1): colours / colours.norm(dim=1, keepdim=True)})
    known = torch.eye(len(_COLOURS), dtype=torch.float64).reshape(len(_COLOURS), len(_COLOURS), 1, 1)
    for level, (block, width) in enumerate(zip(blocks[:-1], widths[:-1], strict=True)):
        final = level == len(widths) - 2
        wanted = waves if final else _seen_of(waves, 2 * known.shape[-1], width)
        corners = {(y, x): _corner(known, y, x) for y in (0, 1) for x in (0, 1)}
        joined = torch.cat([corner.flatten(1) for corner in corners.values()])
        taps = wanted.flatten(1) @ torch.linalg.pinv(joined)
        _lead(block.downsamplers[0].conv, dict(zip(corners, taps.split(len(known), 1), strict=True)))
        shortcut = blocks[level + 1].resnets[0].conv_shortcut
        if shortcut is not None and not final:
            _lead(shortcut, {(0, 0): torch.eye(len(wanted), dtype=torch.float64)})
        known = wanted
    _pass_the_norm(vae)


def lowest_waves(count: int, side: int) -> Tensor:
    """(count, 3, side, side) in float64: what a cell's pixels are multiplied with, for values of about 1.

    Values are divided by the square root of the deviation they are expected to have, which leaves
    strong waves stronger than weak ones, but less so.
    """
    at = (torch.arange(side, dtype=torch.float64) + 0.5) * math.pi / side
    waves = torch.stack([(wave * at).cos() for wave in range(side)])
    waves = waves / waves.norm(dim=1, keepdim=True)
    expected = {
        (colour, down, across): _WAVES[colour] / (down + across) if down + across else _MEANS[colour]
        for colour in range(len(_COLOURS))
        for down in range(side)
        for across in range(side)
    }
    strongest = sorted(expected, key=lambda wave: (-expected[wave], wave))[:count]
    pixels = torch.zeros(count, len(_COLOURS), side, side, dtype=torch.float64)
    for row, (colour, down, across) in enumerate(strongest):
        scale = expected[colour, down, across] ** 0.5
        pixels[row, colour] = waves[down][:, None] * waves[across] / scale
    return pixels


def _seen_of(waves: Tensor, side: int, width: int) -> Tensor:
    """(at most width, 3, side, side): what must be known of a patch of `side` for all waves of its cell."""
    count, colours, cell, _ = waves.shape
    parts = waves.reshape(count, colours, cell // side, side, cell // side, side)
    patches = parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, colours * side * side)
    basis: Tensor = torch.linalg.svd(patches, full_matrices=False)[2][:width]
    return basis.reshape(-1, colours, side, side)


def _corner(known: Tensor, y: int, x: int) -> Tensor:
    """The same values of a patch twice as wide, of one of its corners."""
    count, colours, side, _ = known.shape
    wide = known.new_zeros(count, colours, 2 * side, 2 * side)
    wide[:, :, y * side : (y + 1) * side, x * side : (x + 1) * side] = known
    return wide


def _lead(layer: nn.Conv2d, taps: dict[tuple[int, int], Tensor]) -> None:
    """First channels of a layer: these taps, at their places, of the first channels before it."""
    count = len(next(iter(taps.values())))
    assert layer.bias is not None
    layer.weight[:count], layer.bias[:count] = 0.0, 0.0
    for (y, x), tap in taps.items():
        layer.weight[:count, : tap.shape[1], y, x] = tap.to(layer.weight)


def _pairs(vae: AutoencoderKL) -> int:
    """Latent channels that each group of the last normalisation carries."""
    count: int = math.ceil(vae.config.latent_channels / vae.config.norm_num_groups)
    return count


def _pass_the_norm(vae: AutoencoderKL) -> None:
    """From the first channels of the last block to the means: in pairs of opposite sign, beside constants."""
    encoder, quant = vae.encoder, vae.quant_conv
    entry: nn.Conv2d = encoder.down_blocks[-1].resnets[0].conv_shortcut
    latents, pairs = vae.config.latent_channels, _pairs(vae)
    size = vae.config.block_out_channels[-1] // vae.config.norm_num_groups
    for layer in (entry, encoder.conv_norm_out, encoder.conv_out):
        for parameter in layer.parameters():
            parameter.zero_()
    assert entry.bias is not None
    at = torch.arange(len(entry.bias))
    entry.bias[at % size >= 2 * pairs] = _LARGE
    entry.bias[(at % size >= 2 * pairs) & (at % 2 == 1)] = -_LARGE
    for latent in range(latents):
        first = latent // pairs * size + latent % pairs * 2
        entry.weight[first, latent], entry.weight[first + 1, latent] = 1.0, -1.0
        encoder.conv_norm_out.weight[first : first + 2] = _LARGE * math.sqrt((size - 2 * pairs) / size)
        encoder.conv_out.weight[latent, first, 1, 1] = 1.0
        encoder.conv_out.weight[latent, first + 1, 1, 1] = -1.0
    quant.weight[:latents] = torch.eye(latents, 2 * latents)[..., None, None]
    quant.bias[:latents] = 0.0
