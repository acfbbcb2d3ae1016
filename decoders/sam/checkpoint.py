"""Published checkpoints on disk: `sam_vit_*.pth`, the same as safetensors, or a folder of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.decoder import SamDecoder
from superlink.decoders.sam.keymap import (
    config_from_transformers,
    config_from_weights,
    is_original,
    load_original,
    load_transformers,
    rename_back,
)
from superlink.decoders.strict import read_weights
from superlink.router.errors import ModelError

_WEIGHTS = "model.safetensors"


def load_checkpoint(path: str | Path, *, link_dim: int, config: SamConfig | None = None) -> SamDecoder:
    """A decoder with published weights, in eval mode; its link projection is fresh.

    Args:
        path: a `.pth` or `.safetensors` file in either layout, or a folder with `config.json` and
            `model.safetensors` (or its shards).
        link_dim: width of the links.
        config: sizes, routes and options; by default those of the folder's `config.json`, or the
            sizes that the file's shapes tell.

    Raises:
        ModelError: a file is missing or damaged, or weights and configuration do not match.
    """
    path = Path(path)
    state = _folder_weights(path) if path.is_dir() else read_weights(path)
    if config is None:
        config = _config(path, state)
    decoder = config.build(link_dim)
    if is_original(state):
        load_original(decoder, state)
    else:
        load_transformers(decoder, state)
    return decoder.eval()


def _config(path: Path, state: dict[str, Tensor]) -> SamConfig:
    if path.is_dir():
        return config_from_transformers(_json(path / "config.json"))
    if is_original(state):
        return config_from_weights(state)
    heads = {name: tensor for name, tensor in state.items() if ".iou_prediction_head.layers." in name}
    # Between the first and the last layer of the head are those that transformers keeps in a list.
    between = SamConfig(iou_layers=2 + len(heads) // 2)
    return config_from_weights({rename_back(name, between): tensor for name, tensor in state.items()})


def _folder_weights(folder: Path) -> dict[str, Tensor]:
    index = folder / f"{_WEIGHTS}.index.json"
    if not index.is_file():
        return read_weights(folder / _WEIGHTS)
    shards = _json(index).get("weight_map", {})
    found: dict[str, Tensor] = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name:
            raise ModelError(f"{str(index)!r} names {name!r}; weights lie in the folder itself")
        found |= read_weights(folder / name)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{str(path)!r} holds no JSON object")
    return data
