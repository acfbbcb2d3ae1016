"""One worker and two with the same global batch compute the same thing, to rounding (1e-5, float32)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from superlink.router.errors import TrainError
from superlink.workflows.train.checkpoint import checkpoints
from superlink.workflows.train.collective import Alone, Collective, average_gradients
from superlink.workflows.train.config import TrainConfig
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.trainer import run_local
from tests.workflows.train.tiny_system import ToyDecoder, toy_config
from tests.workflows.train.two_threads import collectives, in_threads

TOLERANCE = 1e-5
# What detections and words do not need; the bridge reads the tower before its last layer.
IDLE = ("painter", "unused", "queries.pose", "tower.encoder.layers.1.", "post_layernorm")


def loop_of(config: TrainConfig, folder: Path, collective: Collective) -> TrainLoop:
    return TrainLoop(config, folder, collective=collective, device=torch.device("cpu"))


def trained(config: TrainConfig, folder: Path) -> TrainLoop:
    loop = loop_of(config, folder, Alone())
    assert loop.run()
    return loop


def trained_by_two(config: TrainConfig, folder: Path) -> list[TrainLoop]:
    # Built one after the other: threads share the generator that fresh weights come from.
    loops = [loop_of(config, folder, collective) for collective in collectives()]
    assert in_threads([loop.run for loop in loops]) == [True, True]
    return loops


def losses(folder: Path) -> list[dict[str, Any]]:
    return [{**line["losses"], "norm": line["grad_norm"]} for line in read_lines(folder / "metrics.jsonl")]


def assert_equal_runs(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize(
    "tasks",
    [
        ("detect", "pose", "both", "chat"),
        ("chat", "chat", "chat", "detect"),
        ("chat",),
    ],
)
def test_two_workers_train_like_one(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    one = trained(toy_config(tasks=tasks), tmp_path / "one")
    two = trained_by_two(toy_config(tasks=tasks, workers=2), tmp_path / "two")
    assert_equal_runs(losses(tmp_path / "one"), losses(tmp_path / "two"))
    for loop in two:
        torch.testing.assert_close(
            dict(one.module.named_parameters()),
            dict(loop.module.named_parameters()),
            rtol=1e-4,
            atol=TOLERANCE,
        )


def test_micro_batches_train_like_one_batch(tmp_path: Path) -> None:
    trained(toy_config(), tmp_path / "whole")
    trained(toy_config(micro_batch=3), tmp_path / "parts")
    assert_equal_runs(losses(tmp_path / "whole"), losses(tmp_path / "parts"))


def test_a_worker_with_text_alone_never_runs_a_decoder_and_still_gets_its_update(tmp_path: Path) -> None:
    """Global batch of 2 from a stream of one detection in four: most steps leave one worker without any."""
    config = toy_config(tasks=("chat", "detect"), global_batch=2, workers=2)
    loops = trained_by_two(config, tmp_path)
    runs = []
    for loop in loops:
        counter, painter = loop.module.decoders["counter"], loop.module.decoders["painter"]
        assert isinstance(counter, ToyDecoder)
        assert isinstance(painter, ToyDecoder)
        runs.append(counter.runs)
        assert painter.runs == 0
    assert min(runs) < config.steps  # there was a step with text alone
    first, second = (dict(loop.module.named_parameters()) for loop in loops)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_parameter_that_no_worker_used_keeps_its_weights_in_spite_of_weight_decay(tmp_path: Path) -> None:
    config = toy_config(tasks=("detect", "chat"), weight_decay=0.5)
    torch.manual_seed(config.seed)
    fresh = {name: p.detach().clone() for name, p in config.system.build().named_parameters()}
    loop = trained(config, tmp_path)
    for name, parameter in loop.module.named_parameters():
        idle = any(part in name for part in IDLE)
        assert torch.equal(parameter, fresh[name]) is idle, name


def test_gradients_are_averaged_over_workers_with_zeros_for_missing_ones() -> None:
    given = [[1.0, None, None], [3.0, 4.0, None]]

    def work(collective: Collective) -> list[float | None]:
        parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
        for parameter, value in zip(parameters, given[collective.rank], strict=True):
            parameter.grad = None if value is None else torch.full((2,), value)
        average_gradients(parameters, collective)
        return [None if p.grad is None else float(p.grad[0]) for p in parameters]

    answers = in_threads([partial(work, collective) for collective in collectives()])
    assert answers == [[2.0, 2.0, None]] * 2


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    assert run_local(toy_config(), tmp_path / "one").finished
    assert run_local(toy_config(workers=2), tmp_path / "two").finished
    assert_equal_runs(losses(tmp_path / "one"), losses(tmp_path / "two"))


ENDLESS = """
from dataclasses import replace
from pathlib import Path
from superlink.workflows.train.trainer import run_local
from tests.workflows.train.tiny_system import toy_config
config = toy_config(workers=2)
run_local(replace(config, stages=(replace(config.stages[0], steps=100_000),)), Path({folder!r}))
"""


@pytest.mark.slow
def test_workers_whose_parent_is_killed_save_and_end(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", ENDLESS.format(folder=str(tmp_path))], cwd=root)
    deadline = time.monotonic() + 120
    while not (tmp_path / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    while not checkpoints(tmp_path / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.1)
    # Nothing else saves in this run: no checkpoint is due before its end.
    assert checkpoints(tmp_path / "checkpoints")


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    config = toy_config(loss_weights={"counter": float("nan")}, tasks=("detect", "chat"))
    with pytest.raises(TrainError, match=r"step 0: the gradient's norm is nan.*toy:\d+"):
        run_local(config, tmp_path)
    assert not (tmp_path / "model").exists()
