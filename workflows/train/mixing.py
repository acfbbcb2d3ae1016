"""The mean of the weights of several models; often better than each where one was trained from another.

Source: Wortsman et al. 2022, "Model soups"; only models that share a beginning lie close enough together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from superlink.agents.model_folder import Model, load_model
from superlink.router.errors import InputError


def mixed(shares: Mapping[Path, float], *, globs: tuple[str, ...] = ("*",), name: str = "") -> Model:
    """The weighted mean of models of one build.

    Args:
        shares: weight of each model folder; divided by their sum.
        globs: which parameters are mixed, such as "router.*" or "decoders.sam.*"; the others are those of
            the first model.
        name: of the model that comes out; "" = the first one's.

    Raises:
        InputError: fewer than two models, a share that is no positive number, models that differ in more
            than weights, or globs that fit nothing.
    """
    if len(shares) < 2:
        raise InputError(f"a mean needs two models or more, got {len(shares)}")
    if not all(0 < share < math.inf for share in shares.values()):
        raise InputError(f"shares are numbers above 0, got {', '.join(map(str, shares.values()))}")
    (first, *others), total = list(shares), sum(shares.values())
    model = load_model(first)
    kept = {key: value for key, value in _weights(model).items() if _fits(key, globs)}
    if not kept:
        raise InputError(f"no parameter fits {', '.join(globs)}; names begin with router. or decoders.NAME.")
    means = {key: value.double() * (shares[first] / total) for key, value in kept.items()}
    for folder in others:
        other = load_model(folder)
        _check_alike(model, other, first, folder)
        weights = _weights(other)
        for key, mean in means.items():
            mean += weights[key].double() * (shares[folder] / total)
    if broken := [key for key, mean in means.items() if not bool(mean.isfinite().all())]:
        raise InputError(
            f"{broken[0]!r} and {len(broken) - 1} others would hold values that are not finite; one of the "
            f"models is damaged"
        )
    with torch.no_grad():
        for key, mean in means.items():
            kept[key].copy_(mean)
    return Model(
        name=name or model.name, router=model.router, tokenizer=model.tokenizer, decoders=model.decoders
    )


def _weights(model: Model) -> dict[str, torch.Tensor]:
    """Parameters and floating buffers by name, each the tensor itself."""
    parts: dict[str, nn.Module] = {"router": model.router}
    parts |= {f"decoders.{decoder.config.name}": decoder for decoder in model.decoders}
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
        if value.is_floating_point()
    }


def _fits(key: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, glob) for glob in globs)


def _check_alike(one: Model, other: Model, first: Path, folder: Path) -> None:
    shapes = [{key: value.shape for key, value in _weights(model).items()} for model in (one, other)]
    if one.router.config != other.router.config or shapes[0] != shapes[1]:
        raise InputError(
            f"{str(folder)!r} is not built like {str(first)!r}; a mean is of models of one build"
        )
    if one.tokenizer.size != other.tokenizer.size:
        raise InputError(f"{str(folder)!r} and {str(first)!r} have different words")
