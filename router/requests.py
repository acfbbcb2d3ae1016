"""What is asked of a router, and what comes while it writes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal

from superlink.router.errors import InputError
from superlink.router.links import Reply, SuperLink
from superlink.router.messages import Conversation

Reason = Literal["end", "stop", "length"]

_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """How a reply is written.

    Raises:
        InputError: a value that cannot be used.
    """

    max_new_tokens: int = 256  # link queries do not count
    temperature: float = 0.0  # 0 = always the likeliest
    top_p: float = 1.0  # share of the probability that is drawn from, in (0, 1]
    seed: int = 0  # of what is drawn; at most 64 bits
    # Plain strings end the reply before them; special tokens, such as "[DET]", after them.
    stop: tuple[str, ...] = ()
    forced: tuple[int, ...] | None = None  # write exactly these ids, as long as nothing ends the reply

    def __post_init__(self) -> None:
        most, seed, warmth, share = self.max_new_tokens, self.seed, self.temperature, self.top_p
        if not _is(most, Integral) or most < 1:
            raise InputError(f"max_new_tokens must be at least 1, got {most!r}")
        if not _is(seed, Integral) or not -(2**63) <= seed < 2**64:
            raise InputError(f"the seed must be a whole number of at most 64 bits, got {seed!r}")
        if not (_is(warmth, Real) and _is(share, Real) and 0 <= warmth <= _LARGEST and 0 < share <= 1):
            raise InputError(
                f"temperature must be finite and at least 0 and top_p in (0, 1], got {warmth!r} and {share!r}"
            )
        stop: object = self.stop
        if isinstance(stop, str):  # each of its letters would end the reply
            raise InputError(f"stop must be several strings, got one; write ({stop!r},)")
        if not all(_is(text, str) for text in self.stop):
            raise InputError(f"stop must be strings, got {self.stop!r}")
        if self.forced is not None and not self.forced:
            raise InputError("forced ids must not be empty; leave them out to write freely")
        # torch takes no whole numbers but Python's own.
        object.__setattr__(self, "max_new_tokens", int(most))
        object.__setattr__(self, "seed", int(seed))


def _is(value: object, kind: type) -> bool:
    """Whether a caller who checks no types gave the right one; true and false are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One reply that is asked for."""

    conversation: Conversation  # with its pictures; the reply follows its last message
    options: GenerateOptions = field(default_factory=GenerateOptions)
    expression: str | None = None  # what a routing token without words means; the last question
    # Seconds that a caller waits for the reply; a router that serves many stops writing it then.
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More of the text that people read; the deltas of a row join to its `Reply.text`."""

    row: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkReady:
    """A link is complete: its decoder may start while the router still writes."""

    row: int
    link: SuperLink


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finished:
    row: int
    reply: Reply
    reason: Reason


Event = TextDelta | LinkReady | Finished
