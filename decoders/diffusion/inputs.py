"""Calls, options and labels as tensors.

Axes: B calls, Q tokens of a caption, S side of the square that is learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from superlink.decoders.artifacts import Artifact, Picture
from superlink.decoders.contract import Call
from superlink.decoders.diffusion.noise import Noise
from superlink.decoders.diffusion.sampling import Plan
from superlink.decoders.letterbox import Size
from superlink.router.errors import DataError, InputError

Pixels = NDArray[np.uint8]
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What a batch is learned from."""

    pictures: Tensor  # (B, 3, S, S) in [-1, 1], the right answers
    sources: Tensor | None  # (B, 3, S, S), the pictures to edit
    captioned: Tensor  # (B,) bool: calls whose link stands for words
    noise: Noise

    @property
    def shown(self) -> Tensor:
        """(B, 3, S, S): what is edited, which is nearly the answer, or else the answer: each scene once."""
        return self.pictures if self.sources is None else self.sources


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiffusionInputs:
    """A batch of calls."""

    calls: tuple[Call, ...]
    plans: tuple[Plan, ...]  # of each call
    sources: tuple[Tensor, ...]  # of each call (1, 3, h, w) in [-1, 1]; none where nothing is edited
    sizes: tuple[Size, ...]  # (height, width) of each answer
    captions: Tensor | None  # (B, Q) token ids of the phrases, where they are read
    lesson: Lesson | None


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) to (1, 3, H, W) in [-1, 1]."""
    # The memory stays as it is, channels last: so diffusers does it, and sums depend on it.
    return 2.0 * torch.from_numpy(pixels[None].astype(np.float32) / 255.0).permute(0, 3, 1, 2) - 1.0


def to_pixels(picture: Tensor) -> Pixels:
    """(1, 3, H, W) in [-1, 1] to (H, W, 3)."""
    unit = (picture.float() * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 0)
    return np.asarray((unit.cpu().numpy() * 255).round().astype(np.uint8))


def resized(pixels: Pixels, size: Size) -> Pixels:
    """(H, W, 3) stretched to `size`; as it is where that is its size."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS))


def padded_square(pixels: Pixels, side: int) -> Pixels:
    """All of the picture in the middle of a white square."""
    picture = Image.fromarray(pixels)
    return np.asarray(ImageOps.pad(picture, (side, side), Image.Resampling.LANCZOS, color=_WHITE))


def cropped_square(pixels: Pixels, side: int) -> Pixels:
    """The largest square in the middle of the picture."""
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (side, side), Image.Resampling.LANCZOS))


def frame_of(size: Size, *, side: int, multiple: int) -> Size:
    """The size at which a picture is edited: its longest side is `side`, both are multiples of `multiple`.

    Proportions are kept but for the rounding; nothing is padded or cut off.

    Raises:
        InputError: an empty picture.
    """
    if min(size) < 1:
        raise InputError(f"a picture needs at least one pixel, got {size[0]} x {size[1]}")
    scale = side / max(size)
    height, width = (max(multiple, round(one * scale / multiple) * multiple) for one in size)
    return min(height, side), min(width, side)


def check_options(call: Call, known: Sequence[str]) -> None:
    """Raises InputError for an option that this decoder does not have."""
    unknown = sorted(set(call.options) - set(known))
    if unknown:
        raise InputError(f"call {call.id!r} has options {unknown}; possible are {', '.join(known)}")


def steps_option(call: Call, default: int, counts: tuple[int, int]) -> int:
    """Raises InputError unless it is a whole number from the least to the most of `counts`."""
    steps, (least, most) = call.options.get("steps", default), counts
    if not _is_whole(steps) or not least <= steps <= most:
        raise InputError(f"call {call.id!r}: steps is a whole number in {least}..{most}, got {steps!r}")
    return steps


def guidance_option(call: Call, name: str, default: float) -> float:
    """Raises InputError unless it is a finite number that is not negative."""
    scale = call.options.get(name, default)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise InputError(f"call {call.id!r}: {name} is a number, got {scale!r}")
    if not math.isfinite(scale) or scale < 0:
        raise InputError(f"call {call.id!r}: {name} is a finite number from 0, got {scale!r}")
    return float(scale)


def side_option(call: Call, name: str, default: int, *, multiple: int, most: int) -> int:
    """Raises InputError unless it is a multiple of `multiple` in multiple..most."""
    side = call.options.get(name, default)
    if not _is_whole(side) or side % multiple or not multiple <= side <= most:
        raise InputError(
            f"call {call.id!r}: {name} is a multiple of {multiple} pixels, at most {most}, got {side!r}"
        )
    return side


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def target_pixels(calls: Sequence[Call], targets: Sequence[Artifact]) -> list[Pixels]:
    """The pixels of the right answers.

    Raises:
        DataError: not one picture for each call.
    """
    if len(targets) != len(calls):
        raise DataError(f"{len(calls)} calls but {len(targets)} targets")
    found = []
    for call, target in zip(calls, targets, strict=True):
        if not isinstance(target, Picture):
            raise DataError(f"call {call.id!r} needs a Picture as its target, got {type(target).__name__}")
        found.append(target.pixels)
    return found
