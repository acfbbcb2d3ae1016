"""The tools there are: what each is for, what it takes, and what it asks the system in plain words.

A tool asks in a sentence, and the router decides: a tool knows the routing token that it hopes for only
to be left out where no decoder answers it, and to say so when the reply went another way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from superlink.agents.tools.arguments import (
    Arguments,
    Ask,
    Caption,
    Count,
    Detect,
    Edit,
    Generate,
    Ground,
    Instruct,
    Pose,
    Segment,
)
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture
from superlink.decoders.contract import DecoderConfig
from superlink.router.errors import InputError

_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool."""

    name: str
    arguments: type[Arguments]
    sentence: Callable[[Any], str]  # of its arguments
    description: str
    token: str | None = None  # routing token that it needs a decoder for; None = words are enough
    makes: type[Artifact] | None = None  # what is hoped for
    looks: bool = True  # at a picture, if there is one


def _every(phrases: Sequence[str]) -> str:
    """ "every red circle, every star and every heart"."""
    said = [f"every {bare(phrase)}" for phrase in phrases]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def bare(phrase: str, *, article: bool = False) -> str:
    """A phrase without closing marks, and without its article unless that is wanted."""
    words = " ".join(phrase.split()).rstrip(" .!?")
    return words if article else _ARTICLE.sub("", words)


def _pose(given: Pose) -> str:
    names = [f"the {bare(name)}" for name in given.keypoints] or ["the keypoints"]
    parts = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Find {parts} of {_every(given.phrases)}."


def _ended(words: str) -> str:
    words = words[0].upper() + words[1:]
    return words if words[-1] in ".!?" else f"{words}."


SPECS = (
    ToolSpec(
        name="detect",
        arguments=Detect,
        sentence=lambda given: f"Find {_every(given.phrases)}.",
        token="[DET]",
        makes=Boxes,
        description="Find every instance of one or several things in a picture. Gives boxes in pixels "
        "(x0 y0 x1 y1, from the top left) with scores, under an id for later tools.",
    ),
    ToolSpec(
        name="ground",
        arguments=Ground,
        sentence=lambda given: f"Find the {bare(given.phrase)}.",
        token="[GRD]",
        makes=Boxes,
        description="Find the one thing that an expression means, such as 'the largest star' or 'the man on "
        "the left'. Gives one box in pixels.",
    ),
    ToolSpec(
        name="segment",
        arguments=Segment,
        sentence=lambda given: f"Segment {_every(given.phrases)}.",
        token="[SEG]",
        makes=Masks,
        description="Outline things exactly. Gives a mask for each, with its box and area in pixels. With "
        "`refs` only what those results show is outlined: refs=['boxes-1[0]'] is the first box of boxes-1.",
    ),
    ToolSpec(
        name="pose",
        arguments=Pose,
        sentence=_pose,
        token="[POSE]",
        makes=Keypoints,
        description="Find body keypoints of people or of other jointed things: named points in pixels.",
    ),
    ToolSpec(
        name="count",
        arguments=Count,
        sentence=lambda given: f"Find {_every(given.phrases)}.",
        token="[DET]",
        makes=Boxes,
        description="How many there are of each thing: they are detected and counted exactly. With `of`, the "
        "items of an earlier result are counted.",
    ),
    ToolSpec(
        name="generate",
        arguments=Generate,
        sentence=lambda given: f"Paint {bare(given.prompt, article=True)}.",
        token="[GEN]",
        makes=Picture,
        looks=False,
        description="Paint a new picture from words. Gives the id of the picture, for other tools.",
    ),
    ToolSpec(
        name="edit",
        arguments=Edit,
        sentence=lambda given: _ended(given.instruction),
        token="[EDIT]",
        makes=Picture,
        description="Change a picture as told. The old picture stays; gives the id of the new one.",
    ),
    ToolSpec(
        name="caption",
        arguments=Caption,
        sentence=lambda given: "Describe the picture.",
        description="Describe a picture in words.",
    ),
    ToolSpec(
        name="ask",
        arguments=Ask,
        sentence=lambda given: given.question,
        description="Ask a question about a picture and get the answer in words.",
    ),
    ToolSpec(
        name="instruct",
        arguments=Instruct,
        sentence=lambda given: given.instruction,
        description="Tell the vision system anything in plain words, several things at once too; it decides "
        "itself what to find, outline, paint or answer. Prefer a more specific tool where one fits.",
    ),
)


def available(decoders: Sequence[DecoderConfig]) -> dict[str, ToolSpec]:
    """The tools that a system with these decoders can answer, by name."""
    tokens = {route.token.text for config in decoders for route in config.routes}
    return {spec.name: spec for spec in SPECS if spec.token is None or spec.token in tokens}


def spec_of(name: str, decoders: Sequence[DecoderConfig]) -> ToolSpec:
    """The tool of that name.

    Raises:
        InputError: there is none, or no decoder for it.
    """
    there = available(decoders)
    if name in there:
        return there[name]
    missing = next((f"; no decoder here answers {spec.token}" for spec in SPECS if spec.name == name), "")
    raise InputError(f"no tool {name!r}{missing}; there are {', '.join(there)}")
