"""The tools there are: what each is for, what it takes, and what it asks the system in plain words.

A tool asks in a sentence, and the router decides: a tool knows the routing token that it hopes for only
to be left out where no decoder answers it, and to say so when the reply went another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from superlink.agents import sentences
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


SPECS = (
    ToolSpec(
        name="detect",
        arguments=Detect,
        sentence=lambda given: sentences.detect(given.phrases),
        token="[DET]",
        makes=Boxes,
        description="Find every instance of one or several things in a picture. Gives boxes in pixels "
        "(x0 y0 x1 y1, from the top left) with scores, under an id for later tools.",
    ),
    ToolSpec(
        name="ground",
        arguments=Ground,
        sentence=lambda given: sentences.ground(given.phrase),
        token="[GRD]",
        makes=Boxes,
        description="Find the one thing that an expression means, such as 'the largest star' or 'the man on "
        "the left'. Gives one box in pixels.",
    ),
    ToolSpec(
        name="segment",
        arguments=Segment,
        sentence=lambda given: sentences.segment(given.phrases),
        token="[SEG]",
        makes=Masks,
        description="Outline things exactly. Gives a mask for each, with its box and area in pixels. With "
        "`refs` only what those results show is outlined: refs=['boxes-1[0]'] is the first box of boxes-1.",
    ),
    ToolSpec(
        name="pose",
        arguments=Pose,
        sentence=lambda given: sentences.pose(given.phrases, given.keypoints),
        token="[POSE]",
        makes=Keypoints,
        description="Find body keypoints of people or of other jointed things: named points in pixels.",
    ),
    ToolSpec(
        name="count",
        arguments=Count,
        sentence=lambda given: sentences.detect(given.phrases),
        token="[DET]",
        makes=Boxes,
        description="How many there are of each thing: they are detected and counted exactly. With `of`, the "
        "items of an earlier result are counted.",
    ),
    ToolSpec(
        name="generate",
        arguments=Generate,
        sentence=lambda given: sentences.generate(given.prompt),
        token="[GEN]",
        makes=Picture,
        looks=False,
        description="Paint a new picture from words. Gives the id of the picture, for other tools.",
    ),
    ToolSpec(
        name="edit",
        arguments=Edit,
        sentence=lambda given: sentences.edit(given.instruction),
        token="[EDIT]",
        makes=Picture,
        description="Change a picture as told. The old picture stays; gives the id of the new one.",
    ),
    ToolSpec(
        name="caption",
        arguments=Caption,
        sentence=lambda given: sentences.CAPTION,
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
