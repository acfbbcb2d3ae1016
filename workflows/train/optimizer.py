"""AdamW, and Muon for layers of groups that ask for it; parameter groups by glob; learning rates.

One optimiser lives through all stages: a parameter that is frozen for a while keeps its moments.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") makes the singular
values of a matrix's step alike; a convolution is the matrix that takes a window to a pixel. Its steps are as
large as AdamW's (Liu et al. 2025, "Muon is scalable for LLM training"), so that both share one learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from superlink.router.errors import InputError
from superlink.workflows.train.config import ParamGroup, Stage, TrainConfig

ADAPTER_GLOB = "*.lora_*"
_LAYERS = (2, 4)  # axes of what Muon takes: matrices and convolutions


def lr_factor(step: int, *, steps: int, warmup: int, floor: float) -> float:
    """Learning rate of one step as a fraction of the highest.

    Args:
        step: 0 <= step < steps.
        steps: length of the schedule.
        warmup: steps of linear warm-up; the last of them runs at the full rate.
        floor: value at the last step.

    Source: cosine decay without restarts, Loshchilov and Hutter 2017, equation 5.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def stage_lr(stage: Stage, step: int) -> float:
    """Learning rate of step `step` within the stage."""
    return stage.lr * lr_factor(step, steps=stage.steps, warmup=stage.warmup, floor=stage.floor)


def match(globs: Iterable[str], names: Sequence[str]) -> set[str]:
    """Names that match any glob.

    Raises:
        InputError: a glob matches nothing, so that a typing error cannot freeze a model in silence.
    """
    found: set[str] = set()
    for glob in globs:
        hits = {name for name in names if fnmatchcase(name, glob)}
        if not hits:
            raise InputError(f"no parameter matches {glob!r}; names look like {', '.join(names[:4])}")
        found |= hits
    return found


def set_trainable(module: nn.Module, globs: Sequence[str]) -> list[str]:
    """Make exactly the matching parameters, and every adapter, require a gradient; their names."""
    parameters = dict(module.named_parameters())
    chosen = match(globs, list(parameters))
    bases = {name for name in parameters if ".base_layer." in name}
    # Beside an adapter its base stays as it is, whatever "*" says.
    chosen = (chosen - bases) | {name for name in parameters if fnmatchcase(name, ADAPTER_GLOB)}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
        if name not in chosen:
            parameter.grad = None
    return [name for name in parameters if name in chosen]


def split_groups(module: nn.Module, groups: Sequence[ParamGroup]) -> list[tuple[ParamGroup, list[str]]]:
    """Every parameter in exactly one group: the first whose glob matches, else the last, "*".

    Raises:
        InputError: a glob matches no parameter at all.
    """
    names = [name for name, _ in module.named_parameters()]
    match([group.glob for group in groups], names)
    every = [*groups, ParamGroup(glob="*")]
    split: list[tuple[ParamGroup, list[str]]] = [(group, []) for group in every]
    for name in names:
        members = next(members for group, members in split if fnmatchcase(name, group.glob))
        members.append(name)
    return split


class Together(torch.optim.Optimizer):
    """Optimisers of different parameters as one: their groups in a row, their state in one table."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = tuple(parts)
        for part in parts:
            part.state = self.state  # one table, which checkpoints empty and fill

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of each, after `closure`, where given, has computed the gradients; its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


class Muon(torch.optim.Muon):
    """PyTorch's Muon, which takes matrices alone, for convolutions (out, in, height, width) as well."""

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        shapes = [group["params"] for group in groups]
        flat = [{**group, "params": [one.detach().flatten(1) for one in group["params"]]} for group in groups]
        super().__init__(flat, lr=0.0, adjust_lr_fn="match_rms_adamw")
        for group, members in zip(self.param_groups, shapes, strict=True):
            group["params"] = members

    def _init_group(
        self,
        group: MutableMapping[str, Any],
        params_with_grad: list[Tensor],
        grads: list[Tensor],
        muon_momentum_bufs: list[Tensor],
    ) -> bool:
        """What a step changes: matrices that share their memory with the parameters and their moments."""
        whole: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        has_complex: bool = super()._init_group(group, *whole)
        for into, tensors in zip((params_with_grad, grads, muon_momentum_bufs), whole, strict=True):
            into += [one.view(len(one), -1) for one in tensors]
        return has_complex


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """An optimiser of every parameter; frozen ones have no gradient and are passed over."""
    parameters = dict(module.named_parameters())
    adam: list[dict[str, Any]] = []
    muon: list[dict[str, Any]] = []
    for group, names in split_groups(module, config.groups):
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        members = [parameters[name] for name in names]
        by_muon = [one for one in members if group.muon and one.ndim in _LAYERS]
        matrices = [one for one in members if one.ndim > 1 and not (group.muon and one.ndim in _LAYERS)]
        vectors = [one for one in members if one.ndim <= 1]
        for into, chosen, shrunk in ((muon, by_muon, decay), (adam, matrices, decay), (adam, vectors, 0.0)):
            if chosen:
                into.append({"params": chosen, "lr": 0.0, "scale": group.lr, "weight_decay": shrunk})
    parts: list[torch.optim.Optimizer] = []
    if muon:
        parts.append(Muon(muon))
    if adam:
        parts.append(torch.optim.AdamW(adam, lr=0.0, betas=config.betas, fused=True))
    return parts[0] if len(parts) == 1 else Together(parts)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
