"""A session: rounds of questions about pictures, each building on what came before.

The router reads the whole conversation, its own earlier replies included, so "the largest of
them" can be understood; `refs` hands earlier artifacts to the decoders themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from superlink.agents.asking import Question, answer, kind_of
from superlink.agents.engine import Engine
from superlink.agents.pictures import PictureLike, SourcePicture, read_picture
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks
from superlink.router.errors import InputError
from superlink.router.messages import Message, Prompt
from superlink.router.prompts import prompt_mask
from superlink.router.requests import GenerateOptions


class Session:
    """Rounds with one system. Not for several threads at once; sessions share an engine freely."""

    def __init__(self, engine: Engine, *, options: GenerateOptions | None = None) -> None:
        self._engine = engine
        self._options = options or GenerateOptions()
        self._messages: list[Message] = []
        self._turns: list[Turn] = []
        self._picture: SourcePicture | None = None
        self._taken: dict[str, int] = {}

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every round so far, oldest first."""
        return tuple(self._turns)

    @property
    def picture(self) -> SourcePicture | None:
        """What the next question is about, unless it brings a picture of its own."""
        return self._picture

    def ask(
        self,
        text: str,
        *,
        image: PictureLike | None = None,
        prompts: Sequence[Prompt] = (),
        refs: Sequence[Artifact] = (),
        threshold: float | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        deadline: float | None = None,
    ) -> Turn:
        """Ask the next question.

        Args:
            text: the instruction.
            image: a picture; without one the question is about the picture of the last round.
            prompts: points, boxes, scribbles and masks on the picture, which the text calls
                "region1", "region2" and so on.
            refs: artifacts of earlier rounds, on the same picture, that the answer builds on.
            threshold: least score of an item in 0..1; by default the decoder's own.
            seed: of everything random.
            max_new_tokens: longest reply.
            deadline: seconds for the whole turn; what is not there by then becomes a failure.

        Raises:
            InputError: something given cannot be used; the session is as it was before.
        """
        picture = self._picture if image is None else read_picture(image)
        message = user_message(text, picture=picture, shown=self._picture, prompts=prompts)
        request = Question(
            conversation=(*self._messages, message),
            picture=picture,
            refs=checked_refs(refs, picture),
            threshold=checked_threshold(threshold),
            deadline=checked_deadline(deadline),
            round=len(self._turns) + 1,
            taken=self._taken,
        )
        options = reply_options(self._options, seed=seed, max_new_tokens=max_new_tokens)
        (turn,) = answer(self._engine, [request], options)
        self._messages += [message, Message(role="assistant", text=turn.raw)]
        self._turns.append(turn)
        self._picture = picture
        for artifact in turn.artifacts:
            kind = kind_of(artifact)
            self._taken[kind] = self._taken.get(kind, 0) + 1
        return turn


def user_message(
    text: str,
    *,
    picture: SourcePicture | None,
    shown: SourcePicture | None = None,
    prompts: Sequence[Prompt] = (),
) -> Message:
    """The message of a question.

    Args:
        text: what was asked.
        picture: what it is about.
        shown: the picture that the conversation already shows; it is not sent again.
        prompts: drawn on `picture`.

    Raises:
        InputError: no words, or a prompt that does not lie on the picture.
    """
    if not isinstance(text, str):
        raise InputError(f"an instruction is a string, got {type(text).__name__}")
    if not text.strip():
        raise InputError("the instruction is empty; say what to do, for example 'Find every star.'")
    if prompts and picture is None:
        raise InputError("points, boxes, scribbles and masks need a picture to lie on; pass image=")
    for prompt in prompts:
        if picture is not None:
            prompt_mask(prompt, picture.size)
    new = picture is not None and (shown is None or shown.id != picture.id)
    return Message(
        role="user",
        text=text.strip(),
        images=(picture.pixels,) if new and picture is not None else (),
        prompts=tuple(prompts),
    )


def checked_refs(refs: Sequence[Artifact], picture: SourcePicture | None) -> tuple[Artifact, ...]:
    """`refs` as given, when all of them speak of `picture`.

    Raises:
        InputError: one is of another picture, or has no places in a picture.
    """
    for ref in refs:
        if not isinstance(ref, Boxes | Masks | Keypoints):
            raise InputError(f"refs are boxes, masks or keypoints, got {type(ref).__name__}")
        name = ref.origin.id or type(ref).__name__
        if picture is None:
            raise InputError(f"{name!r} refers to a picture and there is none yet; pass image=")
        other = ref.origin.source and ref.origin.source != picture.id
        if other or tuple(ref.size) != picture.size:
            raise InputError(
                f"{name!r} is of another picture of size {list(ref.size)}, "
                f"this question is about one of size {list(picture.size)}"
            )
    return tuple(refs)


def checked_threshold(threshold: float | None) -> float | None:
    """`threshold` as given, when it is a score."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise InputError(f"the threshold is a score in 0..1, got {threshold}")
    return threshold


def checked_deadline(deadline: float | None) -> float | None:
    """`deadline` as given, when it is a time to wait."""
    if deadline is not None and not (math.isfinite(deadline) and deadline > 0.0):
        raise InputError(f"the deadline is a number of seconds above 0, got {deadline}")
    return deadline


def reply_options(base: GenerateOptions, *, seed: int, max_new_tokens: int | None) -> GenerateOptions:
    """`base` with what this question says.

    Raises:
        InputError: no room for a reply.
    """
    most = base.max_new_tokens if max_new_tokens is None else max_new_tokens
    return replace(base, seed=seed, max_new_tokens=most)
