"""Whether a device is there, said before a model is loaded for it."""

from __future__ import annotations

import torch

from superlink.router.errors import InputError


def check_device(device: str | torch.device) -> None:
    """Refuse what is no device, and CUDA where there is none.

    Raises:
        InputError: with what to take instead.
    """
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError as error:
        raise InputError(f"{str(device)!r} is no device; take 'cpu', or 'cuda' for a GPU") from error
    if kind == "cuda" and (index or 0) >= (count := torch.cuda.device_count()):
        there = f"{count} CUDA devices" if count else "no CUDA device"
        raise InputError(f"{str(device)!r} is not here, there is {there}; take 'cpu' or another one")
