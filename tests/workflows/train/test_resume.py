"""A run that was stopped and taken up again ends with the very same weights, bit for bit."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from superlink.router.errors import InputError, ModelError
from superlink.workflows.data.samples import Sample
from superlink.workflows.train import checkpoint
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Lora, ParamGroup, Source, Stage, TrainConfig
from superlink.workflows.train.identity import differences
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.module import JointModule
from superlink.workflows.train.trainer import run_local
from tests.workflows.train.tiny_system import ToySamples, toy_config


def two_stages(**changes: object) -> TrainConfig:
    """Dropout in the language model, another stage after three steps, a checkpoint at every step."""
    config = toy_config(checkpoint_every=1, keep=100, **changes)
    router = replace(config.system.router, llm={**config.system.router.llm, "attention_dropout": 0.2})
    first = replace(config.stages[0], steps=3, lesson="words", warmup=2, name="words")
    second = replace(config.stages[0], steps=4, trainable=("decoders.*", "router.queries.*"))
    return replace(config, system=replace(config.system, router=router), stages=(first, second))


def start(config: TrainConfig, folder: Path) -> TrainLoop:
    return TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu"))


def weights(loop: TrainLoop) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loop.module.state_dict().items()}


def run_until(config: TrainConfig, folder: Path, step: int) -> None:
    """As after Ctrl-C: the step in progress is finished and saved."""
    loop = start(config, folder)
    assert loop.run(lambda: loop.step == step - 1) is False
    assert loop.step == step


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("unbroken")
    loop = start(two_stages(), folder)
    assert loop.run()
    return weights(loop), [line["losses"] for line in read_lines(folder / "metrics.jsonl")]


@pytest.mark.parametrize("stops", [[1], [2, 3], [3], [4, 5, 6]])
def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, stops: list[int], unbroken: tuple[dict[str, Tensor], list[dict[str, object]]]
) -> None:
    for step in stops:
        run_until(two_stages(), tmp_path, step)
    loop = start(two_stages(), tmp_path)
    assert loop.step == stops[-1]
    assert loop.run()
    torch.testing.assert_close(weights(loop), unbroken[0], rtol=0, atol=0)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert [line["losses"] for line in lines] == unbroken[1]


def test_muon_too_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = two_stages(groups=(ParamGroup(glob="router.llm.*layers*", lr=0.5, muon=True),))
    whole = start(config, tmp_path / "unbroken")
    assert whole.run()
    run_until(config, tmp_path / "stopped", 2)
    loop = start(config, tmp_path / "stopped")
    assert any("momentum_buffer" in moments for moments in loop.optimizer.state.values())
    assert loop.run()
    torch.testing.assert_close(weights(loop), weights(whole), rtol=0, atol=0)


def test_a_crash_costs_the_steps_since_the_last_checkpoint_and_nothing_else(
    tmp_path: Path, unbroken: tuple[dict[str, Tensor], list[dict[str, object]]]
) -> None:
    def crash(module: JointModule, step: int) -> dict[str, float]:
        if step == 5:
            raise KeyboardInterrupt
        return {}

    config = replace(two_stages(), eval_every=1, checkpoint_every=2)
    loop = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"), evaluation=crash)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    again = start(config, tmp_path)
    assert again.step == 4
    assert again.run()
    torch.testing.assert_close(weights(again), unbroken[0], rtol=0, atol=0)


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    config = two_stages()
    run_until(config, tmp_path, 2)
    broken = tmp_path / "checkpoints" / ".step-00000003.part"
    broken.mkdir()
    (broken / "weights.safetensors").write_bytes(b"half")
    assert start(config, tmp_path).step == 2


def test_a_damaged_checkpoint_is_an_error_in_one_line(tmp_path: Path) -> None:
    config = two_stages()
    run_until(config, tmp_path, 2)
    (tmp_path / "checkpoints" / "step-00000002" / "weights.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(ModelError, match=r"weights\.safetensors") as caught:
        start(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    config = replace(two_stages(), keep=2)
    assert start(config, tmp_path).run()
    assert [step for step, _ in checkpoint.checkpoints(tmp_path / "checkpoints")] == [6, 7]


def test_a_run_with_other_settings_does_not_take_up_the_checkpoint(tmp_path: Path) -> None:
    run_until(two_stages(), tmp_path, 2)
    with pytest.raises(ModelError, match="seed = 0, this one has 9"):
        start(two_stages(seed=9), tmp_path)


def test_a_run_with_another_optimiser_does_not_take_up_the_checkpoint(tmp_path: Path) -> None:
    by_muon = two_stages(groups=(ParamGroup(glob="router.llm.*layers*", muon=True),))
    run_until(two_stages(), tmp_path / "adam", 2)
    with pytest.raises(ModelError, match=r"muon = None, this one has \['router\.llm\.\*layers\*'\]"):
        start(by_muon, tmp_path / "adam")
    run_until(by_muon, tmp_path / "muon", 2)
    with pytest.raises(ModelError, match=r"this one has None \(optimizer\.groups differ too\); use the"):
        start(two_stages(), tmp_path / "muon")


def with_stage(config: TrainConfig, **changes: Any) -> TrainConfig:
    return replace(config, stages=(replace(config.stages[0], **changes), *config.stages[1:]))


OTHER = {
    "rates.words.lr = 0.001, this one has 0.5": with_stage(two_stages(), lr=0.5),
    "rates.words.warmup = 2, this one has 1": with_stage(two_stages(), warmup=1),
    "rates.words.floor = 0.02, this one has 1.0": with_stage(two_stages(), floor=1.0),
    "learned.words.lesson = 'words', this one has 'all'": with_stage(two_stages(), lesson="all"),
    "learned.words.trainable = ['*'], this one has ['router.*']": with_stage(
        two_stages(), trainable=("router.*",)
    ),
    "data.words.1-toy.open.0 = ['detect', 'pose', 'both', 'chat'], this one has ['chat']": with_stage(
        two_stages(), mixture=(Source(name="toy", open=partial(ToySamples, ("chat",))),)
    ),
    "data.words.1-toy.weight = 1.0, this one has 2.0": with_stage(
        two_stages(),
        mixture=(replace(two_stages().stages[0].mixture[0], weight=2.0),),
    ),
    "losses.counter = None, this one has 2.0": two_stages(loss_weights={"counter": 2.0}),
    "optimizer.clip = 1.0, this one has 9.0": two_stages(clip=9.0),
    "lora = None, this one has {'r': 4}": two_stages(lora=Lora(r=4)),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    run_until(two_stages(), folder, 1)
    return folder


@pytest.mark.parametrize("said", OTHER)
def test_what_changes_a_run_is_named_with_both_values(said: str, stopped: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(f"comes from a run with {said}; use the same")) as caught:
        start(OTHER[said], stopped)
    assert "\n" not in str(caught.value)


def test_how_a_run_is_watched_and_shared_may_change_when_it_goes_on(stopped: Path) -> None:
    changed = two_stages(workers=2, micro_batch=2, threads=2, log_every=7, prefetch=1, eval_every=3)
    assert start(replace(changed, keep=1, checkpoint_every=9), stopped).step == 1


def test_a_checkpoint_of_an_earlier_version_goes_on_where_it_says_nothing(tmp_path: Path) -> None:
    run_until(two_stages(), tmp_path, 1)
    file = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    state = json.loads(file.read_text())
    state["run"] = {key: state["run"][key] for key in ("average", "seed", "stages")}
    file.write_text(json.dumps(state))
    assert start(with_stage(two_stages(), lr=0.5), tmp_path).step == 1
    with pytest.raises(ModelError, match="seed = 0, this one has 9"):
        start(two_stages(seed=9), tmp_path)
    by_muon = two_stages(groups=(ParamGroup(glob="router.llm.*layers*", muon=True),))
    with pytest.raises(ModelError, match="muon = None"):
        start(by_muon, tmp_path)


def test_long_values_are_shortened_and_further_differences_only_named() -> None:
    before = {"data": {"a": "x" * 900, "b": 1, "c": 2}, "seed": 1}
    now = {"data": {"a": "y" * 900, "b": 2, "c": 2}, "seed": 2}
    said = differences(before, now)
    assert re.fullmatch(
        r"data\.a = 'x+\.\.\.x+', this one has 'y+\.\.\.y+' \(data\.b, seed differ too\)", said
    )
    assert len(said) < 320
    assert differences(before, dict(before)) == ""


def test_a_finished_run_is_not_trained_any_further(tmp_path: Path) -> None:
    assert run_local(two_stages(), tmp_path).finished
    before = (tmp_path / "metrics.jsonl").read_text()
    result = run_local(two_stages(), tmp_path)
    assert (result.finished, result.steps) == (True, 7)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    config = two_stages()
    long_stage: Stage = replace(config.stages[1], steps=10_000)
    long = replace(config, stages=(config.stages[0], long_stage), keep=1, checkpoint_every=0, eval_every=4)
    # Reading the validation samples rings Ctrl-C once.
    result = run_local(replace(long, validation=(replace(long_stage.mixture[0], open=_Ringing),)), tmp_path)
    assert not result.finished
    assert 0 < result.steps <= 5
    assert start(long, tmp_path).step == result.steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class _Ringing(ToySamples):
    """Samples whose first use sends this process Ctrl-C."""

    rung = False

    def __getitem__(self, index: int) -> Sample:
        if not self.rung:
            self.rung = True
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(index)


def test_a_lesson_that_no_decoder_gives_is_refused(tmp_path: Path) -> None:
    config = toy_config()
    config = replace(config, stages=(replace(config.stages[0], lesson="cells"),))
    with pytest.raises(InputError, match="no decoder of this system has cells_loss"):
        start(config, tmp_path).run()
