"""Training state on disk, from which a run goes on exactly as if it had never stopped.

What a step draws depends on seed and step alone (see `data` and `loop`), so weights, moments and
the number of steps done are the whole state. Files are safetensors and JSON, keyed by parameter names.
A folder under its final name is complete: it is written beside and renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from superlink.router.errors import ModelError

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{8})")


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def checkpoints(root: Path) -> list[tuple[int, Path]]:
    """Complete checkpoints under a folder, oldest first."""
    if not root.is_dir():
        return []
    found = [(match, path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match.group(1)), path) for match, path in found)


def save(
    root: Path, *, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, object], keep: int
) -> Path:
    """Write the state after `step` steps and drop all but the newest `keep` checkpoints.

    Args:
        identity: plain data that a resumed run must share (seed, batch sizes, stage lengths).
    """
    final = folder_of(root, step)
    part = root / f".{final.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_model(module, str(part / WEIGHTS))
    save_file(_moments(module, optimizer), str(part / OPTIMIZER))
    (part / STATE).write_text(json.dumps({"step": step, "run": identity}, indent=1) + "\n", encoding="utf-8")
    if final.exists():  # the same state, written by an earlier start
        shutil.rmtree(final)
    os.replace(part, final)
    for _, old in checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    return final


def load(
    folder: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, object]
) -> int:
    """Restore weights and moments; steps done.

    Raises:
        ModelError: the checkpoint belongs to another model or to a run with other settings.
    """
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    stored = state["run"]
    different = sorted(key for key in {*stored, *identity} if stored.get(key) != _plain(identity.get(key)))
    if different:
        key = different[0]
        raise ModelError(
            f"checkpoint {str(folder)!r} comes from a run with {key} = {stored.get(key)!r}, this one has "
            f"{identity.get(key)!r}; use the same settings, another folder, or start again with --no-resume"
        )
    load_weights(module, folder / WEIGHTS)
    try:
        moments = load_file(str(folder / OPTIMIZER))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"checkpoint {str(folder)!r} cannot be read: {error}") from error
    _restore_moments(module, optimizer, moments)
    return int(state["step"])


def load_weights(module: nn.Module, path: Path) -> None:
    """Every tensor of a weights file into the module, which must have exactly these.

    Raises:
        ModelError: tensors that are missing, left over or of another shape.
    """
    try:
        load_model(module, str(path), strict=True)
    except (RuntimeError, OSError, SafetensorError) as error:
        first = " ".join(str(error).split())[:300]
        raise ModelError(f"weights {str(path)!r} do not fit this model: {first}") from error


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))


def _moments(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": value.detach().contiguous()
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_moments(module: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for key, value in moments.items():
        name, _, moment = key.rpartition(":")
        if name not in parameters:
            raise ModelError(f"the checkpoint holds moments of {name!r}, which this model does not have")
        parameter = parameters[name]
        optimizer.state[parameter][moment] = value.to(parameter.device)
