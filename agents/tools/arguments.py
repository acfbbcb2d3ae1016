"""The arguments of the tools. Their descriptions are what a language model reads before it calls one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MOST_PHRASES = 50


def _as_list(value: Any) -> Any:
    """Language models often write one word where a list of one is meant."""
    return [value] if isinstance(value, str) else value


Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=r"\w")]
Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"\w")]
Phrases = Annotated[list[Phrase], BeforeValidator(_as_list), Field(max_length=MOST_PHRASES)]
Picture = Annotated[
    str | None,
    Field(
        description="Id of the picture to look at, such as 'picture-1'. Leave it out for the picture that "
        "earlier results in the arguments belong to, else for the one that was shown or made last."
    ),
]
References = Annotated[
    list[Words],
    BeforeValidator(_as_list),
    Field(
        description="Ids of earlier results to keep to, such as 'boxes-1'; single items of a result are "
        "'boxes-1[0]' or 'boxes-1[0,2]'."
    ),
]
Threshold = Annotated[
    float | None, Field(ge=0.0, le=1.0, description="Least score to keep; leave it out for the usual one.")
]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="Of everything random.")]

_SINGULAR = (
    "each thing in the singular and without article, as a person would say it: "
    '["red circle", "person with a hat"].'
)


class Arguments(BaseModel):
    """What all tools share: a name that a tool does not have is refused."""

    # What a tool is mainly about comes first: a tool called with one string takes it as that.
    model_config = ConfigDict(extra="forbid")


class Detect(Arguments):
    phrases: Phrases = Field(min_length=1, description=f"What to look for, {_SINGULAR}")
    picture: Picture = None
    refs: References = Field(default_factory=list)
    threshold: Threshold = None


class Ground(Arguments):
    phrase: Phrase = Field(description='The one thing that is meant: "largest star", "man on the left".')
    picture: Picture = None
    refs: References = Field(default_factory=list)
    threshold: Threshold = None


class Segment(Arguments):
    phrases: Phrases = Field(
        default_factory=list,
        description=f"What to outline, {_SINGULAR} Left out, it is what the items of `refs` are called.",
    )
    refs: References = Field(default_factory=list)
    picture: Picture = None
    threshold: Threshold = None


class Pose(Arguments):
    phrases: Phrases = Field(default=["person"], min_length=1, description="Whose keypoints: usually person.")
    keypoints: Phrases = Field(
        default_factory=list, description='Which ones: ["nose", "left wrist"]. Leave it out for all.'
    )
    picture: Picture = None
    refs: References = Field(default_factory=list)
    threshold: Threshold = None


class Count(Arguments):
    phrases: Phrases = Field(default_factory=list, description=f"What to count, {_SINGULAR}")
    of: str | None = Field(
        None, description="Id of an earlier result whose items are counted; nothing is looked for again."
    )
    picture: Picture = None
    threshold: Threshold = None


class Generate(Arguments):
    prompt: Words = Field(description='What the new picture shows: "a red star above a blue square".')
    seed: Seed = 0


class Edit(Arguments):
    instruction: Words = Field(description='The change, as an order: "make the star green".')
    picture: Picture = None
    seed: Seed = 0


class Caption(Arguments):
    picture: Picture = None


class Ask(Arguments):
    question: Words = Field(description="A question about the picture that words answer.")
    picture: Picture = None


class Instruct(Arguments):
    instruction: Words = Field(description="Anything, in plain words, with or without a picture.")
    picture: Picture = None
    refs: References = Field(default_factory=list)
    threshold: Threshold = None
    seed: Seed = 0
