"""One training or evaluation sample: a conversation and what its decoders should answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from superlink.decoders.artifacts import Artifact, Masks
from superlink.router.errors import DataError, InputError
from superlink.router.messages import Conversation, ImageArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """The right answer of one decoder call.

    For gathering decoders a call holds every link of one routing token in the LAST assistant
    message, in reading order; `artifact.names[k]` is the phrase of link k, and `labels` index it.
    """

    token: str  # "[DET]"
    artifact: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Words of one message, and which things of the picture they are about."""

    message: int  # of the conversation
    start: int  # characters of its text
    stop: int
    things: tuple[int, ...]  # rows of `Sample.shown`; none where there is no such thing
    names: bool = True  # the words say which things; False: they answer a question about them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    conversation: Conversation  # ends with the assistant message to learn
    image: ImageArray | None  # what the decoders of the last message look at
    targets: tuple[Target, ...]  # one for each decoder call of the last assistant message
    task: str  # "detect", "ground", "segment", "mixed", "chat", ...
    source: str = ""  # "shapes:123" or "file.json#17", for error messages
    # What a right reply in words says, bare: "red", "three", "left"; None where routing and targets say it.
    answer: str | None = None
    # Everything that the last picture of the conversation shows, where visual tokens are to learn its names.
    shown: Masks | None = None
    # What words are about, where attention is to learn to look there.
    looks: tuple[Look, ...] = ()
    # The picture in front shows nothing of what is said: words alone decide the reply.
    unseen: bool = False


class Dataset(Protocol):
    """A random-access source: the same index always gives the same sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@contextmanager
def naming(source: str) -> Iterator[None]:
    """What cannot be used in here is an error that names the sample it comes from."""
    try:
        yield
    except (DataError, InputError) as error:
        if source in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error


def iterate(dataset: Dataset) -> Iterator[Sample]:
    """Every sample once, in order."""
    return (dataset[index] for index in range(len(dataset)))
