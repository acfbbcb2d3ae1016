"""What every decoder with float32 weights says to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from superlink.decoders.contract import Call, Decoder
from superlink.router.errors import DecoderError

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def check_half_precision(
    decoder: Decoder[Any, Any], call: Call, run: Callable[..., object], dtype: torch.dtype
) -> None:
    """Under autocast it computes; with weights of that precision it is refused in words."""
    with torch.autocast("cpu", dtype):
        run(decoder, [call])
    decoder.to(dtype)
    complaint = f"the weights of {decoder.config.name} must be float32, got {dtype}.*torch.autocast"
    with pytest.raises(DecoderError, match=complaint):
        run(decoder, [call])
