"""Which model a name means. Needs no torch, so that a mistyped name is told at once."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

from superlink.router.errors import ModelError

SYSTEM_FILE = "system.json"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # nothing pickled, no code


def embedded_models() -> dict[str, Path]:
    """The folders of the models that come with the package, by name."""
    weights = Path(str(files("superlink"))) / "weights"
    return {path.parent.name: path.parent for path in sorted(weights.glob(f"*/{SYSTEM_FILE}"))}


def model_folder(model: str | os.PathLike[str]) -> Path:
    """The folder of an embedded model, the one given, or that of a model folder on the Hugging Face Hub.

    Args:
        model: a name, a path, or "owner/name" on the Hub where no such path exists. What was downloaded once
            is taken from the cache of `huggingface_hub` while the Hub cannot be reached.

    Raises:
        ModelError: none of them.
    """
    embedded = embedded_models()
    if isinstance(model, str) and model in embedded:
        return embedded[model]
    folder = Path(model)
    # Where its first part is a folder here, a path was meant and mistyped.
    if isinstance(model, str) and not folder.parent.exists() and HUB_NAME.fullmatch(model):
        folder = _downloaded(model)
    if not folder.is_dir():
        known = ", ".join(embedded) or "none"
        raise ModelError(
            f"unknown model {os.fspath(model)!r}; the embedded ones: {known}; others by the path of"
            " a folder, or as owner/name on the Hugging Face Hub"
        )
    if not (folder / SYSTEM_FILE).is_file():
        raise ModelError(f"{str(folder)!r} is not a model folder: it has no {SYSTEM_FILE}")
    return folder


def _downloaded(name: str) -> Path:
    """The folder of a model of the Hub, fetched where it is not in the cache.

    Raises:
        ModelError: the Hub has no such model, or cannot be reached and the cache has none.
    """
    # Not at the top: it takes longer to import than a mistyped name should take to be told.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (HFValidationError, OSError) as error:  # whatever the Hub or the way to it says is an OSError
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ModelError(
            f"{name!r} is no folder here and could not be had from the Hugging Face Hub ({reason});"
            " check the name and the connection"
        ) from error
