"""One decoder of a model folder, without the rest: a process around it imports nothing of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from superlink.decoders.contract import Decoder, DecoderConfig
from superlink.router.checkpoint import WEIGHTS_NAME, load_weights
from superlink.router.keymap import load_strictly


def decoder_folder(model: Path, name: str) -> Path:
    """Where a model folder keeps the decoder `name`."""
    return model / "decoders" / name


def load_decoder(
    folder: Path, config: DecoderConfig, width: int, *, device: torch.device | str = "cpu"
) -> Decoder[Any, Any]:
    """The decoder in `folder`, in float32 and eval mode.

    Args:
        folder: of the decoder.
        config: as `read_outline` finds it there.
        width: of the router's links.

    Raises:
        ModelError: a file is missing or damaged, or weights and configuration do not match.
    """
    decoder = config.build(width)
    load_strictly(decoder, load_weights(folder, WEIGHTS_NAME), f"the decoder in {str(folder)!r}")
    return decoder.to(device).eval()
