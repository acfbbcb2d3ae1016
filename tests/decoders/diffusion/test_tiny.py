"""The sizes that two CPU cores can train."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion.config import DiffusionConfig
from superlink.decoders.diffusion.tiny import tiny_instruct_pix2pix, tiny_stable_diffusion
from superlink.router.links import LinkBatch
from tests.decoders.diffusion.painters import LINK_DIM, answers, call_of, picture

BOTH = pytest.mark.parametrize(
    "config", [tiny_stable_diffusion(), tiny_instruct_pix2pix()], ids=["paint", "edit"]
)


@BOTH
def test_it_makes_pictures_of_128_pixels_with_few_parameters(config: DiffusionConfig) -> None:
    decoder = config.build(LINK_DIM)
    assert 6e6 < sum(parameter.numel() for parameter in decoder.parameters()) < 6.5e6
    assert config.routes[0].token.num_links == 64
    (found,) = answers(decoder, [call_of(config, size=(128, 128), options={"steps": 2})])
    assert found.pixels.shape == (128, 128, 3)


@BOTH
def test_a_few_steps_on_one_picture_lower_its_loss(config: DiffusionConfig) -> None:
    torch.manual_seed(0)
    # Half of the frame's side: the same network, a quarter of the work.
    decoder = replace(config, drop_rate=0.0, train_side=64).build(LINK_DIM).train()
    call, target = call_of(config, size=(64, 64)), Picture(pixels=picture(64, 64, seed=3))
    inputs = decoder.prepare([call], [target])
    optimizer = torch.optim.AdamW((one for one in decoder.parameters() if one.requires_grad), lr=1e-3)
    losses = []
    for _ in range(8):
        inputs = decoder.prepare([call], [target])  # the same seed: the same noise
        outputs = decoder(LinkBatch.of([call.links]), inputs)
        loss = decoder.loss(outputs, inputs, count=1.0)["loss_noise"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
