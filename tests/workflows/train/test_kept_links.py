"""Links that stay where they were while the router learns something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from superlink.router.batch import RowLink
from superlink.router.errors import InputError
from superlink.workflows.train.checkpoint import checkpoints
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import TrainConfig
from superlink.workflows.train.kept_links import kept_links_loss
from superlink.workflows.train.loop import CHECKPOINTS, TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.module import JointModule
from tests.workflows.train.tiny_system import DET, ToySamples, toy_config


def a_link(embeddings: Tensor) -> RowLink:
    return RowLink(token=DET, position=0, embeddings=embeddings)


def speaking(**changes: object) -> TrainConfig:
    """The router alone learns words, fast."""
    config = toy_config(trainable=("router.*",), **changes)
    return replace(config, stages=(replace(config.stages[0], lesson="words", steps=30, lr=2e-2),))


def start(config: TrainConfig, folder: Path) -> TrainLoop:
    return TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu"))


def links(module: JointModule) -> Tensor:
    """(N, D) of every link of some rows."""
    data = ToySamples(("detect", "pose", "both"))
    batch = module.prepare([data[index] for index in range(12)], lesson="words")
    with torch.no_grad():
        output = module.router(batch.rows)
    return torch.cat([link.embeddings for row in output.links for link in row])


def test_the_loss_is_the_share_of_a_links_square_that_it_has_gone() -> None:
    was = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    now = torch.tensor([[3.0, 5.0], [0.0, 4.0]])  # 1 of 25, and 4 of 4
    result = kept_links_loss([[a_link(now)], [a_link(was)]], [[a_link(was)], [a_link(was)]])
    assert result is not None
    assert result[0].item() == pytest.approx((1 / 25 + 1) / 2)
    assert result[1] == 2
    assert kept_links_loss([[], []], [[], []]) is None


def test_a_router_that_learns_words_keeps_its_links_if_it_is_asked_to(tmp_path: Path) -> None:
    moved, learned = [], []
    for weight in (0.0, 10.0):
        loop = start(speaking(loss_weights={"kept_links": weight}), tmp_path / str(weight))
        before = links(loop.module)
        assert loop.run()
        moved.append(float((links(loop.module) - before).square().mean() / before.square().mean()))
        lines = read_lines(tmp_path / str(weight) / "metrics.jsonl")
        learned.append(lines[-1]["losses"]["language"] / lines[0]["losses"]["language"])
    assert moved[1] < 0.2 * moved[0]
    assert learned[1] < 0.3


def test_links_that_are_compared_now_and_then_count_as_much_more(tmp_path: Path) -> None:
    terms: dict[float, list[float | None]] = {}
    for share in (1.0, 0.25):
        loop = start(
            speaking(loss_weights={"kept_links": 1.0}, kept_links_share=share), tmp_path / str(share)
        )
        with torch.no_grad():
            for weight in loop.module.router.parameters():
                weight.mul_(1.1)
        data = ToySamples(("both",))
        batch = loop.module.prepare([data[0], data[1]], lesson="words")
        torch.manual_seed(0)
        with torch.no_grad():
            found = [loop.module(batch, batch.counts).get("kept_links") for _ in range(120)]
        terms[share] = [None if value is None else float(value) for value in found]
    (whole,) = set(terms[1.0])
    assert whole is not None
    assert whole > 0
    compared = [value for value in terms[0.25] if value is not None]
    assert 15 <= len(compared) <= 45
    assert compared == pytest.approx([4 * whole] * len(compared))
    loop.module.eval()  # as where losses are validated: there all are compared
    with torch.no_grad():
        assert float(loop.module(batch, batch.counts)["kept_links"]) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_of_no_passes_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="kept_links_share must be above 0"):
        speaking(kept_links_share=share)


def test_the_router_as_it_was_is_no_part_of_the_module(tmp_path: Path) -> None:
    plain = start(speaking(), tmp_path / "plain").module
    held = start(speaking(loss_weights={"kept_links": 1.0}), tmp_path / "held").module
    assert list(held.state_dict()) == list(plain.state_dict())
    assert len(list(held.parameters())) == len(list(plain.parameters()))


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_holds_links_goes_on_bit_for_bit(tmp_path: Path, begun: bool) -> None:
    """What it holds to is what the run began with, not the router of the checkpoint."""
    config = speaking(loss_weights={"kept_links": 3.0}, checkpoint_every=4)
    if begun:
        other = start(speaking(seed=7, checkpoint_every=30), tmp_path / "other")
        assert other.run()
        config = replace(config, weights=checkpoints(tmp_path / "other" / CHECKPOINTS)[-1][1])
    whole = start(config, tmp_path / "whole")
    assert whole.run()
    first = start(config, tmp_path / "stopped")
    assert first.run(lambda: first.step == 4) is False
    again = start(config, tmp_path / "stopped")
    assert again.step == 5
    assert again.run()
    torch.testing.assert_close(again.module.state_dict(), whole.module.state_dict(), rtol=0, atol=0)
