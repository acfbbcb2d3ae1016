from __future__ import annotations

import pytest
import torch
from torch import nn

from superlink.router.errors import InputError, ModelError
from superlink.workflows.train.average import RunningAverage


def stepped(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_averages_follow_the_formula() -> None:
    module = two_layers()
    weight = module.get_parameter("0.weight")
    average = RunningAverage(module, ["0.*"], decay=0.4)
    expected = weight.detach().clone()
    for update in range(1, 8):
        stepped(module)
        decay = min(0.4, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight.detach()
        average.update(module)
    torch.testing.assert_close(average.state_dict()["0.weight"], expected)
    assert set(average.state_dict()) == {"0.weight", "0.bias", "updates"}


def test_averages_are_lent_and_the_own_weights_come_back_even_after_an_error() -> None:
    module = two_layers()
    average = RunningAverage(module, ["*"])
    stepped(module)
    own = {name: one.detach().clone() for name, one in module.named_parameters()}

    def lent() -> None:
        with average.applied(module):
            assert torch.equal(module.get_parameter("1.bias"), average.state_dict()["1.bias"])
            assert not torch.equal(module.get_parameter("1.bias"), own["1.bias"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lent()
    assert all(torch.equal(one, own[name]) for name, one in module.named_parameters())
    average.copy_to(module)
    assert torch.equal(module.get_parameter("1.bias"), average.state_dict()["1.bias"])


def test_a_resumed_average_goes_on_bit_for_bit() -> None:
    module = two_layers()
    straight, resumed = RunningAverage(module, ["*"]), RunningAverage(module, ["*"])
    stepped(module)
    straight.update(module)
    resumed.load_state_dict({name: one.clone() for name, one in straight.state_dict().items()})
    stepped(module)
    straight.update(module)
    resumed.update(module)
    one, other = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_does_not_fit_is_refused_by_name() -> None:
    module = two_layers()
    with pytest.raises(InputError, match="unet"):
        RunningAverage(module, ["unet.*"])
    with pytest.raises(ValueError, match=r"got 1\.0"):
        RunningAverage(module, ["*"], decay=1.0)
    average = RunningAverage(module, ["*"])
    state = average.state_dict()
    with pytest.raises(ModelError, match="more"):
        average.load_state_dict({**state, "more": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"0\.bias has shape \(1,\), not \(3,\)"):
        average.load_state_dict({**state, "0.bias": torch.zeros(1)})
    with pytest.raises(ModelError, match="any more"):
        average.update(nn.Linear(2, 2))
