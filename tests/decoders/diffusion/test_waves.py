"""The encoder that begins as the cosine transform of its cells, against scipy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from superlink.decoders.diffusion.autoencoder import begin
from superlink.decoders.diffusion.layers import build_vae
from superlink.decoders.diffusion.tiny import tiny_stable_diffusion
from superlink.decoders.diffusion.waves import can_begin_as_waves, lowest_waves
from tests.decoders.diffusion.painters import VAE

OURS: dict[str, Any] = dict(tiny_stable_diffusion().vae)
SMALL: dict[str, Any] = {
    **OURS,
    "down_block_types": OURS["down_block_types"][:3],
    "up_block_types": OURS["up_block_types"][:3],
    "block_out_channels": [12, 24, 32],
    "norm_num_groups": 4,
    "latent_channels": 6,
}


def cells(pictures: np.ndarray, side: int) -> np.ndarray:
    """(N, 3, H, W) to (N, h, w, 3, side, side)."""
    count, colours, height, width = pictures.shape
    parts = pictures.reshape(count, colours, height // side, side, width // side, side)
    return parts.transpose(0, 2, 4, 1, 3, 5)


@pytest.mark.parametrize("options", [OURS, SMALL], ids=["8 pixels", "4 pixels"])
def test_the_means_are_waves_of_brightness_and_colour_as_scipy_finds_them(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    vae = build_vae(options)
    assert can_begin_as_waves(vae)
    begin(vae)
    side, latents = 2 ** (len(options["block_out_channels"]) - 1), options["latent_channels"]
    pictures = np.random.default_rng(1).uniform(-1, 1, (2, 3, 64, 48)).astype(np.float32)
    pictures[1] *= 0.3  # another contrast, which the normalisation must not take away
    with torch.no_grad():
        found = vae.encode(torch.from_numpy(pictures)).latent_dist.mean.permute(0, 2, 3, 1)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    mixed = np.einsum("kc,nhwcyx->nhwkyx", colours, cells(pictures, side))
    every = torch.from_numpy(dctn(mixed, axes=(-2, -1), norm="ortho")).flatten(3)
    waves = lowest_waves(latents, side)
    places = torch.from_numpy(dctn(waves.numpy(), axes=(-2, -1), norm="ortho")).flatten(1).argmax(1)
    assert len(set(places.tolist())) == latents
    wanted = every[..., places] * waves.flatten(1).norm(dim=1)
    torch.testing.assert_close(found, wanted.float(), atol=0.01, rtol=0.01)


def test_sixteen_channels_hold_ten_waves_of_brightness_and_three_of_each_colour() -> None:
    waves = lowest_waves(16, 8)
    assert waves.abs().amax((2, 3)).gt(0).sum(0).tolist() == [10, 3, 3]
    flat = waves.flatten(1)
    gram = flat @ flat.T
    torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"latent_channels": 48},  # two channels for each do not fit into the last level
        {"norm_num_groups": 48},  # nor a constant into a group
        {"block_out_channels": [24, 32, 64, 64]},  # no layer leads into the last level
        {"in_channels": 4},
    ],
)
def test_an_encoder_without_room_says_so(change: dict[str, Any]) -> None:
    options = {**OURS, **change}
    groups = options["norm_num_groups"]
    if any(width % groups for width in options["block_out_channels"]):
        options["block_out_channels"] = [48, 48, 96, 144]
    assert not can_begin_as_waves(build_vae(options))


def test_one_without_room_still_begins() -> None:
    vae = build_vae(VAE)
    assert not can_begin_as_waves(vae)
    begin(vae)
