"""What a person gives with a question, checked and put into messages."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from superlink.agents.pictures import PictureLike, SourcePicture, picture_id, read_picture
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture
from superlink.router.errors import InputError
from superlink.router.examples import example_rounds
from superlink.router.messages import Box, Conversation, ImageArray, Mask, Message, Point, Prompt, Scribble
from superlink.router.prompts import plain_prompt, prompt_mask
from superlink.router.requests import GenerateOptions

_BLANKS = re.compile(r"[^\S\n]+")
_BESIDE_NEW_LINE = re.compile(r" ?\n ?")

# A picture and what is meant on it: a prompt, or a mask (H, W) whose true pixels mean it.
Example = tuple[PictureLike, Prompt | NDArray[np.generic]]


def user_message(
    text: str,
    *,
    picture: SourcePicture | None,
    shown: str = "",
    prompts: Sequence[Prompt] = (),
) -> Message:
    """The message of a question.

    Args:
        text: what was asked.
        picture: what it is about.
        shown: id of the picture that the conversation showed last; it is not sent again.
        prompts: drawn on `picture`.

    Raises:
        InputError: no words, or a prompt that does not lie on the picture.
    """
    if not isinstance(text, str):
        raise InputError(f"an instruction is a string, got {type(text).__name__}")
    if not text.strip():
        raise InputError("the instruction is empty; say what to do, for example 'Find every star.'")
    if prompts and picture is None:
        raise InputError(
            "points, boxes, scribbles and masks need a picture to lie on; give one with the question"
        )
    for prompt in prompts:
        if picture is not None:
            prompt_mask(prompt, picture.size)
    new = picture is not None and shown != picture.id
    return Message(
        role="user",
        text=text.strip(),
        images=(picture.pixels,) if new and picture is not None else (),
        prompts=tuple(prompts),
    )


def as_read(conversation: Conversation) -> Conversation:
    """A conversation as the router reads it: as it is, but for odd blanks in what people wrote.

    The router learned people's words with single spaces; doubled ones, tabs and no-break spaces make it
    misspell what it repeats. A new line stays: in what it learned, things may stand on lines of their own,
    and joined lines would become one thing.
    """
    return tuple(
        replace(message, text=_BESIDE_NEW_LINE.sub("\n", _BLANKS.sub(" ", message.text)).strip())
        if message.role == "user"
        else message
        for message in conversation
    )


def checked_prompts(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """`prompts` in plain numbers, when each is one; where they lie is the business of `user_message`.

    Raises:
        InputError: no list of prompts, or one that is not made of numbers.
    """
    if not isinstance(prompts, list | tuple):
        raise InputError(
            f"prompts are a list of Point, Box, Scribble and Mask, got {type(prompts).__name__} alone"
        )
    for prompt in prompts:
        if not isinstance(prompt, Point | Box | Scribble | Mask):
            raise InputError(
                f"prompts are a list of Point, Box, Scribble and Mask, got {type(prompt).__name__} in it"
            )
    return tuple(plain_prompt(prompt) for prompt in prompts)


def example_messages(examples: Sequence[Example]) -> Conversation:
    """The rounds before a question that show what it means.

    Args:
        examples: pictures with a prompt or a mask on each.

    Raises:
        InputError: not such pairs, a picture that cannot be read, or a mask of another size.
    """
    if not isinstance(examples, list | tuple):
        raise InputError(
            f"examples are a list of pairs of a picture and a mask, got {type(examples).__name__}"
        )
    read: list[tuple[ImageArray, Prompt]] = []
    for number, example in enumerate(examples, start=1):
        if not isinstance(example, list | tuple) or len(example) != 2:
            given = f"{len(example)} things" if isinstance(example, list | tuple) else type(example).__name__
            raise InputError(f"example {number} is a pair of a picture and a mask, got {given}")
        picture, meant = example
        try:
            pixels = read_picture(picture).pixels
        except InputError as error:
            raise InputError(f"example {number}: {error}") from error
        if isinstance(meant, np.ndarray):
            meant = Mask(meant.astype(np.bool_))  # a copy: the array stays the caller's
        if not isinstance(meant, Point | Box | Scribble | Mask):
            raise InputError(f"example {number} needs a mask array or a prompt, got {type(meant).__name__}")
        read.append((pixels, plain_prompt(meant)))
    return example_rounds(read)


def checked_refs(refs: Sequence[Artifact], picture: SourcePicture | None) -> tuple[Artifact, ...]:
    """`refs` as given, when all of them speak of `picture`.

    Raises:
        InputError: no list, or one is of another picture, or has no places in a picture.
    """
    if not isinstance(refs, list | tuple):
        raise InputError(
            f"refs are a list of earlier results, such as [turn.boxes], got {type(refs).__name__}"
        )
    for ref in refs:
        if not isinstance(ref, Boxes | Masks | Keypoints | Picture):
            raise InputError(f"refs are boxes, masks or keypoints, or a picture, got {type(ref).__name__}")
        name = ref.origin.id or type(ref).__name__
        if isinstance(ref, Picture):
            if picture is None or picture_id(ref.pixels) != picture.id:
                raise InputError(
                    f"{name!r} is a picture of its own; leave image= out, and the question is about it"
                )
            continue
        if picture is None:
            raise InputError(
                f"{name!r} refers to a picture and there is none yet; give one with the question"
            )
        other = ref.origin.source and ref.origin.source != picture.id
        if other or tuple(ref.size) != picture.size:
            raise InputError(
                f"{name!r} is of another picture of size {list(ref.size)}, "
                f"this question is about one of size {list(picture.size)}"
            )
    return tuple(refs)


def checked_threshold(threshold: float | None) -> float | None:
    """`threshold` as given, when it is a score."""
    if threshold is not None and not (_is_number(threshold) and 0.0 <= threshold <= 1.0):
        raise InputError(f"the threshold is a score in 0..1, got {threshold!r}")
    return threshold


def checked_deadline(deadline: float | None) -> float | None:
    """`deadline` as given, when it is a time to wait; at most the longest that a thread can wait."""
    # Compared, not `isfinite`: that has no answer for a whole number beyond the floats.
    if deadline is not None and not (_is_number(deadline) and 0.0 < deadline < math.inf):
        raise InputError(f"the deadline is a number of seconds above 0, got {deadline!r}")
    return None if deadline is None else min(deadline, threading.TIMEOUT_MAX)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def reply_options(base: GenerateOptions, *, seed: int, max_new_tokens: int | None) -> GenerateOptions:
    """`base` with what this question says.

    Raises:
        InputError: no room for a reply, or a seed that is none.
    """
    most = base.max_new_tokens if max_new_tokens is None else max_new_tokens
    return replace(base, seed=seed, max_new_tokens=most)
