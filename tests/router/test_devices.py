"""Devices that are not here are refused in one line."""

from __future__ import annotations

import pytest
import torch

import superlink
from superlink.router.devices import check_device
from superlink.router.errors import InputError


def test_a_processor_is_always_there() -> None:
    check_device("cpu")
    check_device(torch.device("cpu"))


@pytest.mark.parametrize("device", ["toaster", "cuda:x", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="is no device; take 'cpu'"):
        check_device(device)


def test_a_gpu_that_is_not_here_is_refused_before_anything_is_loaded() -> None:
    beyond = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(InputError, match="is not here, there is") as caught:
        superlink.load("tiny", device=beyond)
    assert "\n" not in str(caught.value)
