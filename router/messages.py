"""Messages between a person and the router, and the visual prompts that a person can draw.

Coordinates are pixels of the original, upright picture: x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, slots=True)
class Point:
    """A click."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, top, right, bottom."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Scribble:
    """A free line."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A painted area."""

    mask: NDArray[np.bool_]  # (H, W)


Prompt = Point | Box | Scribble | Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Message:
    """One turn's words, pictures and visual prompts.

    `text` is what the person or the router wrote. User text carries no special tokens; assistant
    text carries routing tokens and phrase tags ("Sure: <det>red circle</det>[DET].") but no
    placeholders. The encoder writes pictures before the text and prompts as numbered regions.
    """

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[ImageArray, ...] = ()
    prompts: tuple[Prompt, ...] = ()  # on the last image of the conversation so far


Conversation = tuple[Message, ...]
