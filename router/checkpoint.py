"""Weights and configurations on disk: safetensors in small files, loaded strictly.

A router folder holds `config.json` and `model.safetensors`, or `model-00001-of-00003.safetensors`
and so on with `model.safetensors.index.json`. Files are complete before they take their names.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from superlink.router.config import RouterConfig
from superlink.router.errors import ModelError
from superlink.router.keymap import load_strictly

if TYPE_CHECKING:
    from superlink.router.model import Router

Precision = Literal["fp32", "bf16", "fp16"]

MAX_FILE_BYTES = 15_000_000  # of a model that can live in a repository of code
LARGE_FILE_BYTES = 4_000_000_000  # of one that cannot, which would be hundreds of such files
MOST_FILES = 20
CONFIG_FILE = "config.json"
WEIGHTS_NAME = "model"
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_ALIASES = "aliases"  # metadata: names of tensors that are the same as another one, as JSON


def save_router(folder: Path | str, router: Router, *, dtype: Precision = "fp32") -> None:
    """Write a router that `load_router` reads.

    Raises:
        ModelError: the language model still has adapters.
    """
    state = router.state_dict()
    if any(".lora_" in name for name in state):
        raise ModelError("the language model still has adapters; merge them before saving the router")
    save_json(Path(folder) / CONFIG_FILE, router.config.to_json())
    save_weights(folder, WEIGHTS_NAME, state, dtype=dtype)


def load_router(folder: Path | str, *, device: torch.device | str = "cpu") -> Router:
    """The router in `folder`, in float32 and eval mode.

    Raises:
        ModelError: a file is missing or unreadable, or weights and configuration do not match.
    """
    from superlink.router.model import Router  # brings transformers, which other weights do not need

    folder = Path(folder)
    router = Router(RouterConfig.from_json(load_json(folder / CONFIG_FILE)))
    load_strictly(router, load_weights(folder, WEIGHTS_NAME), f"the router in {str(folder)!r}")
    return router.to(device).eval()


def save_weights(
    folder: Path | str,
    name: str,
    state: Mapping[str, Tensor],
    *,
    dtype: Precision | None = None,
    max_bytes: int | None = None,
) -> list[Path]:
    """Write tensors as `<name>.safetensors`, in several files where one would be too big.

    Args:
        state: names and tensors; a tensor that occurs under several names is written once.
        dtype: of floating-point tensors in the files; others, and all with None, stay as they are.
        max_bytes: of one file, unless a single tensor is larger; by default small files for small models.

    Returns:
        The files written, the index included; older files of the same name are removed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unique, aliases = _without_aliases(state)
    if dtype is not None:
        unique = {key: t.to(_DTYPES[dtype]) if t.is_floating_point() else t for key, t in unique.items()}
    unique = {key: _plain(tensor) for key, tensor in unique.items()}
    total = sum(tensor.nbytes for tensor in unique.values())
    if max_bytes is None:
        max_bytes = MAX_FILE_BYTES if total <= MOST_FILES * MAX_FILE_BYTES else LARGE_FILE_BYTES
    parts = _parts(unique, max_bytes)
    metadata = {"format": "pt", _ALIASES: json.dumps(aliases)}
    names = [f"{name}.safetensors"]
    if len(parts) > 1:
        names = [f"{name}-{i:05d}-of-{len(parts):05d}.safetensors" for i in range(1, len(parts) + 1)]
    index = {
        "metadata": {"total_size": total, **metadata},
        "weight_map": {key: file for file, part in zip(names, parts, strict=True) for key in part},
    }
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as fresh:
        for file, part in zip(names, parts, strict=True):
            path = Path(fresh) / file
            path.touch()
            mode = path.stat().st_mode
            save_file(part, path, metadata=metadata if len(parts) == 1 else {"format": "pt"})
            path.chmod(mode)  # safetensors writes files that only their owner can read
        for old in _files(folder, name):
            old.unlink()
        for file in names:
            os.replace(Path(fresh) / file, folder / file)
    if len(parts) > 1:
        save_json(folder / _index_name(name), index)
    return _files(folder, name)


def load_weights(folder: Path | str, name: str) -> dict[str, Tensor]:
    """The tensors that `save_weights` wrote, in the precision of the files.

    Raises:
        ModelError: a file is missing, damaged, or lacks a tensor that the index lists.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"no model folder {str(folder)!r}; give the path of a folder with {CONFIG_FILE}")
    single, index_file = folder / f"{name}.safetensors", folder / _index_name(name)
    if not index_file.is_file():
        if not single.is_file():
            raise ModelError(f"{str(folder)!r} has no weights {single.name!r}; is the download complete?")
        state, metadata = _read(single)
        return _with_aliases(state, metadata, single)
    index = load_json(index_file)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise ModelError(f"{str(index_file)!r} is not an index of weights: it has no weight_map")
    state = {}
    for file in sorted(set(weight_map.values())):
        state |= _read(folder / Path(file).name)[0]
    absent = sorted(weight_map.keys() - state.keys())
    if absent:
        raise ModelError(
            f"{str(index_file)!r} lists {len(absent)} tensors that its files lack, such as {absent[0]!r}"
        )
    return _with_aliases(state, index.get("metadata"), index_file)


def save_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file that is complete before it takes its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.saving")
    fresh.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(fresh, path)


def load_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: the file is missing or is not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"no file {str(path)!r}; give the path of a folder with {path.name}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{str(path)!r} must hold a JSON object, got {type(data).__name__}")
    return data


def _without_aliases(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that differ in storage, and for every further name of one its first name."""
    first: dict[tuple[object, ...], str] = {}
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for key, tensor in state.items():
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first:
            aliases[key] = first[place]
        else:
            first[place] = key
            unique[key] = tensor
    return unique, aliases


def _parts(tensors: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """Tensors in order, in groups of at most `max_bytes`."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in tensors.items():
        if parts[-1] and size + tensor.nbytes > max_bytes:
            parts.append({})
            size = 0
        parts[-1][key] = tensor
        size += tensor.nbytes
    return parts


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and alone in its storage."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata of one file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ModelError(f"no weights file {str(path)!r}; is the download complete?") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{str(path)!r} is damaged ({error}); download or save it again") from error


def _with_aliases(state: dict[str, Tensor], metadata: object, path: Path) -> dict[str, Tensor]:
    """`state` with further names of the same tensors, as the metadata tells."""
    text = metadata.get(_ALIASES, "{}") if isinstance(metadata, Mapping) else "{}"
    try:
        aliases = json.loads(text)
        return state | {key: state[same] for key, same in aliases.items()}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(f"{str(path)!r} has damaged metadata: {error}; save it again") from error


def _files(folder: Path, name: str) -> list[Path]:
    """The weight files of `name` in a folder, its index included."""
    # Not a glob: "sam-*" would also name the parts of "sam-hq".
    part = re.compile(re.escape(name) + r"-\d{5}-of-\d{5}\.safetensors")
    whole = (f"{name}.safetensors", _index_name(name))
    return sorted(
        path
        for path in folder.iterdir()
        if (path.name in whole or part.fullmatch(path.name)) and path.is_file()
    )


def _index_name(name: str) -> str:
    return f"{name}.safetensors.index.json"
