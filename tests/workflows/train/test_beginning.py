"""Parts that begin as others: what they have in common, and what the loop makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from superlink.router.errors import InputError
from superlink.workflows.train.beginning import begin_as
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Average, TrainConfig
from superlink.workflows.train.loop import TrainLoop
from tests.workflows.train.tiny_system import toy_config

PAIRS = {"decoders.painter.see": "decoders.counter.see", "decoders.painter.box": "decoders.counter.box"}


class Two(nn.Module):
    """A network that sees three channels, and one that sees three more."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.wide = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4))
        with torch.no_grad():
            self.small[1].running_mean += 1.0


def test_more_channels_make_no_difference_at_first() -> None:
    torch.manual_seed(0)
    both = Two().eval()
    assert begin_as(both, {"wide": "small"}) == {f"wide.{name}" for name in both.wide.state_dict()}
    picture, more = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    wide = both.wide(torch.cat([picture, more], 1))
    torch.testing.assert_close(wide, both.small(picture), rtol=1e-6, atol=1e-6)
    assert both.wide[0].weight.data_ptr() != both.small[0].weight.data_ptr()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"large": "small"}, "there is no part 'large'"),
        ({"wide": "large"}, "there is no 'large.0.weight'"),
        ({"small": "wide"}, r"'small.0.weight' has shape \(4, 3, 3, 3\), 'wide.0.weight' \(4, 6, 3, 3\)"),
    ],
)
def test_parts_that_are_not_alike_are_named(pairs: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        begin_as(Two(), pairs)


def two_stages() -> TrainConfig:
    """Three steps of the counter, then three of the painter, which begins as the counter is."""
    config = toy_config(trainable=("decoders.counter.*",))
    first = replace(config.stages[0], name="first", steps=3)
    second = replace(first, name="second", trainable=("decoders.painter.*",), begins_as=PAIRS)
    return replace(config, stages=(first, second), checkpoint_every=1, keep=100)


def loop_of(config: TrainConfig, folder: Path) -> TrainLoop:
    return TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu"))


def test_a_part_begins_with_its_stage_as_the_other_is_then(tmp_path: Path) -> None:
    config = two_stages()
    frozen = replace(config.stages[1], lr=0.0)
    loop = loop_of(replace(config, stages=(config.stages[0], frozen), weight_decay=0.0), tmp_path)
    counter = loop.module.decoder("counter")
    before = counter.get_parameter("see.weight").clone()
    assert loop.run(lambda: loop.step == 2) is False
    painter = loop.module.decoder("painter")
    assert not torch.equal(painter.get_parameter("see.weight"), counter.get_parameter("see.weight"))
    assert loop.run()
    assert not torch.equal(counter.get_parameter("see.weight"), before)
    for name in ("see.weight", "see.bias", "box.weight", "box.bias"):
        torch.testing.assert_close(painter.get_parameter(name), counter.get_parameter(name), rtol=0, atol=0)


@pytest.mark.parametrize("stop", [3, 4])
def test_a_run_that_is_stopped_around_that_goes_on_as_if_it_were_not(tmp_path: Path, stop: int) -> None:
    whole = loop_of(two_stages(), tmp_path / "whole")
    assert whole.run()
    loop = loop_of(two_stages(), tmp_path / "stopped")
    assert loop.run(lambda: loop.step == stop - 1) is False
    again = loop_of(two_stages(), tmp_path / "stopped")
    assert again.step == stop
    assert again.run()
    torch.testing.assert_close(again.module.state_dict(), whole.module.state_dict(), rtol=0, atol=0)


def test_its_average_begins_anew_and_the_others_go_on(tmp_path: Path) -> None:
    average = Average(globs=("decoders.*.see.*",), decay=0.999)
    config = replace(two_stages(), average=average)
    loop = loop_of(config, tmp_path)
    assert loop.run(lambda: loop.step == 2) is False
    assert loop.average is not None
    loop._begin(config.stages[1])
    averages = loop.average.state_dict()
    weights = dict(loop.module.named_parameters())
    torch.testing.assert_close(
        averages["decoders.painter.see.weight"], weights["decoders.painter.see.weight"].data, rtol=0, atol=0
    )
    counter = "decoders.counter.see.weight"
    assert not torch.equal(averages[counter], weights[counter])
    assert loop.average.updates == 3


def test_a_part_that_is_not_there_is_told_before_the_first_step(tmp_path: Path) -> None:
    config = two_stages()
    wrong = replace(config.stages[1], begins_as={"decoders.painter.hear": "decoders.counter.see"})
    with pytest.raises(InputError, match=r"there is no part 'decoders.painter.hear'"):
        loop_of(replace(config, stages=(config.stages[0], wrong)), tmp_path)
