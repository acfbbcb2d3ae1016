"""Pictures and masks as files: written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from superlink.decoders.artifacts import BoolArray, Masks
from superlink.decoders.files import whole_file
from superlink.router.errors import InputError


def save_picture(pixels: NDArray[np.uint8], path: str | PathLike[str]) -> Path:
    """Write (H, W, 3) or (H, W) pixels; the suffix says the format; missing folders are made.

    Raises:
        InputError: no such format, or the place cannot be written.
    """
    return _write(Image.fromarray(pixels), Path(path))


def save_masks(masks: Masks, folder: str | PathLike[str], *, stem: str = "") -> list[Path]:
    """One black-and-white PNG a mask: `<stem>-0.png`, `<stem>-1.png`, ...

    Args:
        masks: what to write.
        folder: where; made when missing.
        stem: first part of the names; the artifact's id, or "mask", by default.
    """
    stem = stem or masks.origin.id or "mask"
    return [
        _write(Image.fromarray(mask), Path(folder) / f"{stem}-{row}.png")
        for row, mask in enumerate(masks.masks)
    ]


def load_masks(paths: Sequence[str | PathLike[str]], *, size: tuple[int, int]) -> BoolArray:
    """Masks from picture files: brighter than half is inside.

    Args:
        paths: one file a mask.
        size: (height, width) that each must have.

    Returns:
        (N, H, W).

    Raises:
        InputError: a file is missing, is no picture or has another size.
    """
    masks = np.zeros((len(paths), *size), bool)
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as opened:
                mask = np.asarray(opened.convert("L")) > 127
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"cannot read the mask {str(path)!r}: {error}") from error
        if mask.shape != tuple(size):
            raise InputError(f"mask {str(path)!r} has the size {list(mask.shape)}, expected {list(size)}")
        masks[row] = mask
    return masks


def _write(image: Image.Image, path: Path) -> Path:
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise InputError(f"cannot tell a picture format from {path.name!r}; end the name in .png or .jpg")
    with whole_file(path) as part:
        image.save(part, format=kind)
    return path
