"""Painter and editor in one training step with the router, as any other decoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion.config import edit_routes, generation_routes
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.train.loop import attend_plainly
from superlink.workflows.train.module import JointModule
from superlink.workflows.train.systems import FreshSystem
from tests.decoders.diffusion.painters import SIDE, picture, small, small_editor
from tests.workflows.train.tiny_system import router_config, tokenizer


@pytest.fixture
def module() -> JointModule:
    torch.manual_seed(0)
    painter, editor = small(routes=generation_routes(2)), small_editor(routes=edit_routes(2))
    tokens = tuple(config.routes[0].token for config in (painter, editor))
    router = replace(router_config(), tokens=tokens)
    return FreshSystem(name="toy", router=router, decoders=(painter, editor), tokenizer=tokenizer()).build()


def sample(token: str, *, edits: bool) -> Sample:
    image = picture(SIDE, SIDE) if edits else None
    answer = Picture(pixels=picture(SIDE, SIDE, seed=7))
    images = () if image is None else (image,)
    return Sample(
        conversation=(
            Message(role="user", text="red", images=images),
            Message(role="assistant", text=f"<det>red</det>{token}"),
        ),
        image=image,
        targets=(Target(token=token, artifact=answer),),
        task="toy",
        source=f"toy:{token}",
    )


def test_a_step_with_both_teaches_the_router_through_each_link(module: JointModule) -> None:
    batch = module.prepare([sample("[GEN]", edits=False), sample("[EDIT]", edits=True)])
    assert batch.counts["stable_diffusion"] == batch.counts["instruct_pix2pix"] == 1.0
    terms = module(batch, batch.counts)
    assert {"stable_diffusion/loss_noise", "instruct_pix2pix/loss_noise"} <= set(terms)
    module.total(terms, {"language": 0.0}).backward()
    for table in ("gen", "edit"):
        gradient = module.router.queries[table].weight.grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0


def test_the_same_step_draws_the_same_noise_and_another_step_other_noise(module: JointModule) -> None:
    samples = [sample("[GEN]", edits=False)]

    def loss(salt: int) -> float:
        batch = module.prepare(samples, salt=salt)
        with torch.no_grad():
            return module(batch, batch.counts)["stable_diffusion/loss_noise"].item()

    assert loss(3) == loss(3)
    assert not np.isclose(loss(3), loss(4))


def test_plain_attention_of_a_cpu_predicts_what_fused_kernels_predict(module: JointModule) -> None:
    unet = module.decoder("stable_diffusion").unet
    width, channels = unet.config.cross_attention_dim, unet.config.in_channels
    given = torch.randn(2, channels, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, width)
    with torch.no_grad():
        fused = unet(*given).sample
        before = set(map(type, unet.attn_processors.values()))
        attend_plainly(module)
        plain = unet(*given).sample
    assert before.isdisjoint(map(type, unet.attn_processors.values()))
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)
