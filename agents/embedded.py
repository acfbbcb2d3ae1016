"""Which model a name means. Needs no torch, so that a mistyped name is told at once."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from superlink.router.errors import ModelError

SYSTEM_FILE = "system.json"


def embedded_models() -> dict[str, Path]:
    """The folders of the models that come with the package, by name."""
    weights = Path(str(files("superlink"))) / "weights"
    return {path.parent.name: path.parent for path in sorted(weights.glob(f"*/{SYSTEM_FILE}"))}


def model_folder(model: str | os.PathLike[str]) -> Path:
    """The folder of an embedded model, or the one given.

    Raises:
        ModelError: neither.
    """
    embedded = embedded_models()
    if isinstance(model, str) and model in embedded:
        return embedded[model]
    folder = Path(model)
    if not folder.is_dir():
        known = ", ".join(embedded) or "none"
        raise ModelError(
            f"unknown model {os.fspath(model)!r}; the embedded ones: {known}; others by the path of a folder"
        )
    if not (folder / SYSTEM_FILE).is_file():
        raise ModelError(f"{str(folder)!r} is not a model folder: it has no {SYSTEM_FILE}")
    return folder
