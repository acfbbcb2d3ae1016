"""A run with a running average: it is kept in checkpoints, validated and exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from superlink.router.checkpoint import load_weights
from superlink.router.errors import InputError, ModelError
from superlink.workflows.train import checkpoint
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Average, Lora, TrainConfig
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.module import JointModule
from tests.workflows.train.tiny_system import toy_config

GLOBS = ("decoders.counter.*", "router.queries.*")


def config(**changes: object) -> TrainConfig:
    average = Average(globs=GLOBS, decay=0.5)
    return toy_config(average=average, checkpoint_every=1, keep=100, **changes)


def start(run: TrainConfig, folder: Path) -> TrainLoop:
    return TrainLoop(run, folder, collective=Alone(), device=torch.device("cpu"))


def test_the_exported_model_has_the_averages_and_the_checkpoint_the_own_weights(tmp_path: Path) -> None:
    assert start(config(), tmp_path).run()
    plain = tmp_path / "plain"
    assert start(toy_config(checkpoint_every=1, keep=100), plain).run()
    folders = [folder for _, folder in checkpoint.checkpoints(tmp_path / "checkpoints")]
    twins = [folder for _, folder in checkpoint.checkpoints(plain / "checkpoints")]
    for folder, twin in zip(folders, twins, strict=True):  # averaging does not touch training
        torch.testing.assert_close(
            load_weights(folder, "weights"), load_weights(twin, "weights"), rtol=0, atol=0
        )
    name = "decoders.counter.box.weight"
    torch.manual_seed(0)
    expected = config().system.build().get_parameter(name).detach().clone()
    for update, folder in enumerate(folders, start=1):
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * load_weights(folder, "weights")[name]
    exported = load_weights(tmp_path / "model" / "decoders" / "counter", "model")["box.weight"]
    torch.testing.assert_close(exported, expected)
    assert not torch.equal(exported, load_weights(folders[-1], "weights")[name])


@pytest.mark.parametrize("lora", [None, Lora(r=2, alpha=4, targets=("q_proj",))])
def test_a_stopped_run_goes_on_with_its_averages_bit_for_bit(tmp_path: Path, lora: Lora | None) -> None:
    run = config(lora=lora)
    whole, parts = start(run, tmp_path / "whole"), start(run, tmp_path / "parts")
    assert whole.run()
    assert parts.run(lambda: parts.step == 2) is False
    again = start(run, tmp_path / "parts")
    assert again.step == 3
    assert again.run()
    one, other = whole.average, again.average
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(whole.module.state_dict(), again.module.state_dict(), rtol=0, atol=0)


def test_validation_sees_the_averages_and_training_its_own_weights(tmp_path: Path) -> None:
    name = "decoders.counter.box.weight"
    seen: list[Tensor] = []

    def look(module: JointModule, step: int) -> Mapping[str, float]:
        seen.append(module.get_parameter(name).detach().clone())
        return {}

    run = replace(config(), eval_every=6)
    loop = TrainLoop(run, tmp_path, collective=Alone(), device=torch.device("cpu"), evaluation=look)
    assert loop.run()
    (found,) = seen
    last = checkpoint.checkpoints(tmp_path / "checkpoints")[-1][1]
    torch.testing.assert_close(found, load_weights(last, "average")[name], rtol=0, atol=0)
    assert not torch.equal(found, load_weights(last, "weights")[name])


def test_averages_belong_to_the_run(tmp_path: Path) -> None:
    run = config()
    loop = start(run, tmp_path)
    assert loop.run(lambda: loop.step == 1) is False
    with pytest.raises(ModelError, match="average = "):
        start(replace(run, average=None), tmp_path)
    with pytest.raises(InputError, match=r"no parameter matches 'decoders\.unet"):
        start(replace(run, average=Average(globs=("decoders.unet.*",))), tmp_path / "other")
