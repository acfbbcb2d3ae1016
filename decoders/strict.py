"""Weights from published files, and loading those that must fit exactly."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from superlink.router.errors import ModelError


def _same(name: str) -> str:
    return name


def read_weights(path: Path, *, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of one that torch saved; code in it is never run.

    Args:
        entry: where the state dict lies in a file that torch saved, if the file holds more than that.

    Raises:
        ModelError: there is no such file, or it holds no state dict that can be read without running code.
    """
    if not path.is_file():
        raise ModelError(f"no checkpoint at {str(path)!r}; expected a .pth or .safetensors file or a folder")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Trainers keep their command line beside the weights: names and plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        raise ModelError(
            f"{str(path)!r} cannot be read as weights: {' '.join(str(error).split())}"
        ) from error
    if entry is not None and isinstance(state, dict):
        state = state.get(entry, state)
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ModelError(f"{str(path)!r} holds no state dict of tensors")
    return state


def load_exactly(
    module: nn.Module, found: Mapping[str, Tensor], what: str, *, published: Callable[[str], str] = _same
) -> None:
    """Copy `found` into a module whose tensors have exactly these names and shapes.

    Args:
        what: whose configuration the weights should fit, for the message.
        published: the name under which a file has a tensor of the module, for the message.

    Raises:
        ModelError: tensors are missing, unknown or of another shape; all are named.
    """
    expected = module.state_dict()
    missing = sorted(published(name) for name in expected.keys() - found.keys())
    unknown = sorted(published(name) for name in found.keys() - expected.keys())
    shapes = [
        f"{published(name)}: {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(found.keys() & expected.keys())
        if found[name].shape != expected[name].shape
    ]
    shapes += [  # whole numbers are quantised weights, which would be taken for the weights themselves
        f"{published(name)}: {found[name].dtype}, not {expected[name].dtype}"
        for name in sorted(found.keys() & expected.keys())
        if found[name].is_floating_point() != expected[name].is_floating_point()
    ]
    if missing or unknown or shapes:
        raise misfit(what, missing, unknown, shapes)
    module.load_state_dict(dict(found))


def misfit(what: str, missing: list[str], unknown: list[str], shapes: list[str]) -> ModelError:
    """The error that names everything that does not fit."""
    return ModelError(
        f"these weights do not fit the configuration of {what}: missing {missing or 'nothing'}, "
        f"unknown {unknown or 'nothing'}, shapes {shapes or 'all right'}"
    )
