from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from superlink.router.errors import InputError
from superlink.workflows.train.config import ParamGroup
from superlink.workflows.train.optimizer import (
    build_optimizer,
    lr_factor,
    set_lr,
    set_trainable,
    split_groups,
)
from tests.workflows.train.tiny_system import toy_config


def small_model() -> nn.Module:
    return nn.ModuleDict({"head": nn.Linear(4, 2), "backbone": nn.ModuleDict({"norm": nn.LayerNorm(4)})})


def test_the_rate_climbs_in_a_line_falls_as_a_cosine_and_ends_at_the_floor() -> None:
    rates = [lr_factor(step, steps=105, warmup=5, floor=0.1) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0)
    # Half of 99 steps after warm-up is step 49.5: its neighbours average to the middle of 1 and 0.1.
    assert (rates[5 + 49] + rates[5 + 50]) / 2 == pytest.approx(0.55, abs=1e-6)
    assert rates[5 + 33] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 3)) / 2)
    assert rates[-1] == pytest.approx(0.1)
    assert all(before >= after for before, after in pairwise(rates[5:]))


def test_a_floor_of_one_keeps_the_rate_constant_after_warm_up() -> None:
    assert {lr_factor(step, steps=20, warmup=3, floor=1.0) for step in range(3, 20)} == {1.0}


def test_every_parameter_is_in_exactly_one_group_and_the_first_glob_wins() -> None:
    model = small_model()
    split = split_groups(model, [ParamGroup(glob="backbone.*", lr=0.1), ParamGroup(glob="*norm.weight")])
    assert [names for _, names in split] == [
        ["backbone.norm.weight", "backbone.norm.bias"],
        [],
        ["head.weight", "head.bias"],
    ]


def test_the_optimiser_holds_each_parameter_once_and_decays_matrices_only() -> None:
    config = toy_config(weight_decay=0.3, groups=(ParamGroup(glob="router.*", lr=0.5, weight_decay=0.1),))
    module = config.system.build()
    optimizer = build_optimizer(module, config)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in module.parameters())
    set_lr(optimizer, 1e-3)
    by_id = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        group = by_id[id(parameter)]
        inside = name.startswith("router.")
        assert group["lr"] == pytest.approx(5e-4 if inside else 1e-3)
        assert group["weight_decay"] == ((0.1 if inside else 0.3) if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize("glob", ["rooter.*", "head.weigth"])
def test_a_glob_that_matches_nothing_is_an_error_that_shows_names(glob: str) -> None:
    with pytest.raises(InputError, match=r"no parameter matches.*head\.weight"):
        split_groups(small_model(), [ParamGroup(glob=glob)])
    with pytest.raises(InputError, match="no parameter matches"):
        set_trainable(small_model(), [glob])


def test_only_matching_parameters_require_a_gradient_and_stale_gradients_are_dropped() -> None:
    model = small_model()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert set_trainable(model, ["head.*"]) == ["head.weight", "head.bias"]
    state = {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()}
    assert state == {
        "head.weight": (True, False),
        "head.bias": (True, False),
        "backbone.norm.weight": (False, True),
        "backbone.norm.bias": (False, True),
    }


def with_muon(**changes: float) -> ParamGroup:
    return ParamGroup(glob="router.llm.*layers*", muon=True, **changes)


def test_muon_moves_matrices_of_its_group_alone_and_adamw_all_others() -> None:
    config = toy_config(weight_decay=0.3, groups=(with_muon(lr=0.5),))
    module = config.system.build()
    optimizer = build_optimizer(module, config)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in module.parameters())
    set_lr(optimizer, 1e-3)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    names = {id(p): name for name, p in module.named_parameters()}
    kinds = {names[id(p)]: set(state) for p, state in optimizer.state.items()}
    products = {name for name, moments in kinds.items() if moments == {"momentum_buffer"}}
    wanted = {
        name
        for name, parameter in module.named_parameters()
        if name.startswith("router.llm.") and "layers" in name and parameter.ndim == 2
    }
    assert products == wanted
    assert len(wanted) > 3
    assert all(kinds[name] == {"step", "exp_avg", "exp_avg_sq"} for name in kinds.keys() - wanted)


def test_a_step_of_muon_has_like_singular_values_and_the_size_of_adamws() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 24, bias=False)
    before = layer.weight.detach().clone()
    config = toy_config(weight_decay=0.0, groups=(ParamGroup(glob="weight", muon=True),))
    optimizer = build_optimizer(layer, config)
    set_lr(optimizer, 1e-2)
    left, _ = torch.linalg.qr(torch.randn(24, 24))
    right, _ = torch.linalg.qr(torch.randn(48, 24))
    steep = left @ torch.diag(torch.logspace(0, 1.3, 24)) @ right.T
    layer.weight.grad = steep
    optimizer.step()
    step = (layer.weight.detach() - before).double()
    # Five rounds of the quintic iteration leave singular values between about 0.7 and 1.2 of each other's.
    values = torch.linalg.svdvals(step)
    assert float(torch.linalg.cond(steep)) > 19
    assert float(values.max() / values.min()) < 2
    # 0.2 to 0.4 is what updates of AdamW have as their root mean square, in learning rates (Liu et al. 2025).
    assert 0.15 < float(step.square().mean().sqrt()) / 1e-2 < 0.25


def test_muon_takes_a_convolution_as_the_matrix_that_it_is() -> None:
    torch.manual_seed(0)
    flat = nn.Linear(3 * 2 * 5, 8, bias=False)
    convolution = nn.Conv2d(3, 8, (2, 5), bias=False)
    with torch.no_grad():
        convolution.weight.copy_(flat.weight.view_as(convolution.weight))
    group = ParamGroup(glob="weight", muon=True)
    optimizers = [
        build_optimizer(layer, toy_config(weight_decay=0.1, groups=(group,))) for layer in (flat, convolution)
    ]
    for _ in range(3):
        gradient = torch.randn(8, 30)
        flat.weight.grad = gradient.clone()
        convolution.weight.grad = gradient.view_as(convolution.weight).clone()
        for optimizer in optimizers:
            set_lr(optimizer, 1e-2)
            optimizer.step()
    torch.testing.assert_close(convolution.weight.flatten(1), flat.weight, atol=0, rtol=0)
    moments = optimizers[1].state[convolution.weight]
    assert list(moments) == ["momentum_buffer"]
    assert moments["momentum_buffer"].shape == convolution.weight.shape


def test_several_optimisers_take_a_closure_as_one_does_and_clear_every_gradient() -> None:
    config = toy_config(groups=(with_muon(),))
    module = config.system.build()
    optimizer = build_optimizer(module, config)
    set_lr(optimizer, 1e-3)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    calls: list[bool] = []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        return 0.5

    with torch.no_grad():
        assert optimizer.step(closure) == 0.5
    assert calls == [True]
    assert all(not torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in module.parameters())
