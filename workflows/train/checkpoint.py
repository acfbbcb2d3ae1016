"""Training state on disk, from which a run goes on exactly as if it had never stopped.

What a step draws depends on seed and step alone (see `data` and `loop`), so weights, moments, averages,
words and the number of steps done are the whole state. Files are safetensors and JSON, keyed by parameter
names. A folder under its final name is complete: it is written beside and renamed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from superlink.router.checkpoint import load_json, load_weights, save_json, save_weights
from superlink.router.errors import ModelError
from superlink.router.keymap import load_strictly
from superlink.router.tokenizer import FILE_NAME, RouterTokenizer
from superlink.workflows.train.average import RunningAverage
from superlink.workflows.train.identity import differences
from superlink.workflows.train.module import JointModule

WEIGHTS, OPTIMIZER, AVERAGE, STATE = "weights", "optimizer", "average", "state.json"
FILE_BYTES = 4_000_000_000
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
    root: Path,
    *,
    step: int,
    module: JointModule,
    optimizer: torch.optim.Optimizer,
    average: RunningAverage | None,
    identity: dict[str, object],
    keep: int,
) -> Path:
    """Write the state after `step` steps and drop all but the newest `keep` checkpoints.

    Args:
        identity: what a resumed run must share, of `run_identity`.
    """
    final = folder_of(root, step)
    part = root / f".{final.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_weights(part, WEIGHTS, module.state_dict(), max_bytes=FILE_BYTES)
    save_weights(part, OPTIMIZER, _moments(module, optimizer), max_bytes=FILE_BYTES)
    if average is not None:
        save_weights(part, AVERAGE, average.state_dict(), max_bytes=FILE_BYTES)
    module.tokenizer.save(part)
    save_json(part / STATE, {"step": step, "run": identity})
    if final.exists():  # the same state, written by an earlier start
        shutil.rmtree(final)
    os.replace(part, final)
    for _, old in checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    return final


def load(
    folder: Path,
    *,
    module: JointModule,
    optimizer: torch.optim.Optimizer,
    average: RunningAverage | None,
    identity: dict[str, object],
) -> int:
    """Restore weights, moments and averages; steps done.

    Raises:
        ModelError: the checkpoint belongs to another model or to a run with other settings.
    """
    state = load_json(folder / STATE)
    different = differences(state["run"], identity)
    if different:
        raise ModelError(
            f"checkpoint {str(folder)!r} comes from a run with {different}; "
            f"use the same settings, another folder, or start again with --no-resume"
        )
    load_strictly(module, load_weights(folder, WEIGHTS), f"the checkpoint {str(folder)!r}")
    _restore_moments(module, optimizer, load_weights(folder, OPTIMIZER))
    if average is not None:
        average.load_state_dict(load_weights(folder, AVERAGE))
    # The words of the run's start: a recipe that learns them anew may have got other texts since.
    module.tokenizer = RouterTokenizer.load(folder)
    return int(state["step"])


def begin_with(module: JointModule, folder: Path) -> None:
    """Give parameters the weights of a folder that holds those of a checkpoint, or a part of them.

    Raises:
        ModelError: no such weights, one that the module has no place for, or weights for other words.
    """
    if not folder.is_dir():
        raise ModelError(
            f"no weights {str(folder)!r}; give the folder of a checkpoint of a run, or of a part"
        )
    if (folder / FILE_NAME).is_file():
        words = RouterTokenizer.load(folder)
        if (
            words.token_bytes != module.tokenizer.token_bytes
            or words.special_ids != module.tokenizer.special_ids
        ):
            raise ModelError(f"the weights in {str(folder)!r} are for another vocabulary than this run's")
    own, given = module.state_dict(), load_weights(folder, WEIGHTS)
    for name, tensor in given.items():
        if name not in own or own[name].shape != tensor.shape:
            has = f"here it is {tuple(own[name].shape)}" if name in own else "nothing here has that name"
            raise ModelError(f"the weights in {str(folder)!r} have {name} {tuple(tensor.shape)}, but {has}")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)


def _moments(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": value
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
