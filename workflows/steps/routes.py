"""Steps that ask the system: one for every route, and `instruct` for any instruction.

They say what they want in plain sentences, as a person would. Words in braces are further ports:
`detect("{colour} star")(photo, colour=handle)`. A brace that is meant as such is doubled: `{{`.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from superlink.agents import sentences
from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture, Text
from superlink.router.errors import InputError
from superlink.workflows.graph.asks import AskRequest, Asks, AskSettings, first_of
from superlink.workflows.graph.definition import Port, Step
from superlink.workflows.graph.errors import StepError, WorkflowError
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.policies import Policies, PolicyOptions, policies_with
from superlink.workflows.graph.port_types import ITEMS, PortType

if TYPE_CHECKING:
    from superlink.agents.turn import Turn

WORDS: PortType = str | int | float
RETURNS: dict[str, PortType] = {
    "boxes": Boxes,
    "masks": Masks,
    "keypoints": Keypoints,
    "picture": Picture,
    "text": str,
    "all": dict,
}


SETTINGS = ("threshold", "max_new_tokens", "options")  # of asking


class RouteOptions(PolicyOptions, total=False):
    """What every step that asks takes besides its own parameters."""

    threshold: float | None  # least score of an item
    max_new_tokens: int | None  # longest reply
    options: Mapping[str, Mapping[str, object]] | None  # of decoders, as `System.ask` takes them


def detect(*phrases: str, **options: Unpack[RouteOptions]) -> Step:
    """Every instance of one or several classes: `detect("person", "red circle")(photo)` gives `Boxes`.

    With `refs`, artifacts of the same picture, only what overlaps them is looked at.
    """
    text = sentences.detect(_phrases(phrases, "detect"))
    return _asking("detect", text, Boxes, {"phrases": list(phrases)}, options, refs=True)


def ground(phrase: str, **options: Unpack[RouteOptions]) -> Step:
    """The one object that a description means: `ground("the largest star")(photo)` gives `Boxes`."""
    text = sentences.ground(_phrase(phrase, "ground"))
    return _asking("ground", text, Boxes, {"phrase": phrase}, options, refs=True)


def segment(*phrases: str, **options: Unpack[RouteOptions]) -> Step:
    """The exact pixels of every instance of one or several classes, as `Masks`."""
    text = sentences.segment(_phrases(phrases, "segment"))
    return _asking("segment", text, Masks, {"phrases": list(phrases)}, options, refs=True)


def pose(phrase: str = "person", **options: Unpack[RouteOptions]) -> Step:
    """The keypoints of every instance, as `Keypoints`."""
    text = sentences.pose(_phrases((phrase,), "pose"))
    return _asking("pose", text, Keypoints, {"phrase": phrase}, options, refs=True)


def generate(prompt: str, **options: Unpack[RouteOptions]) -> Step:
    """A new `Picture`. Without a port in its words it joins a workflow by `Workflow.add`."""
    text = sentences.generate(_phrase(prompt, "generate"))
    return _asking("generate", text, Picture, {"prompt": prompt}, options, image=False)


def edit(instruction: str, **options: Unpack[RouteOptions]) -> Step:
    """The picture, changed as an instruction says: `edit("make the star green")(photo)`."""
    text = sentences.edit(_phrase(instruction, "edit"))
    return _asking("edit", text, Picture, {"instruction": instruction}, options)


def caption(**options: Unpack[RouteOptions]) -> Step:
    """What a picture shows, in words."""
    return _asking("caption", sentences.CAPTION, str, {}, options)


def ask(question: str, **options: Unpack[RouteOptions]) -> Step:
    """An answer in words to a question about a picture."""
    return _asking("ask", _phrase(question, "ask"), str, {"question": question}, options)


def count(phrase: str | None = None, **options: Unpack[RouteOptions]) -> Step:
    """How many: of boxes, masks or keypoints their number; with a phrase, of such things in a picture.

    Things in a picture are counted by detecting them: a number that the router writes is a guess.
    """
    if phrase is None:
        return Step(
            kind="count",
            ports=(Port(name="items", type=ITEMS | list),),
            run=len,
            returns=int,
            light=True,
            name=options.get("name", ""),
            policies=policies_with(Policies(), options),
        )
    text = sentences.detect(_phrases((phrase,), "count"))

    def number(turn: Turn) -> int:
        return len(first_of(turn, Boxes))

    return _asking("count", text, int, {"phrase": phrase}, options, answer=number)


def instruct(
    instruction: str, *, returns: str = "all", image: bool = True, **options: Unpack[RouteOptions]
) -> Step:
    """Any instruction.

    Args:
        instruction: for the router.
        returns: "boxes", "masks", "keypoints", "picture" or "text": that of the reply; "all": a dict with
            "text" and "artifacts".
        image: whether it is about a picture.
        **options: policies and settings of asking.

    Raises:
        InputError: no instruction, or no such result.
    """
    if returns not in RETURNS:
        raise InputError(f"an instruction returns one of {', '.join(RETURNS)}, got {returns!r}")
    kind = RETURNS[returns]
    parameters = {"instruction": instruction, "returns": returns, "image": image}
    text = _phrase(instruction, "instruct")
    return _asking("instruct", text, kind, parameters, options, image=image, refs=image)


def _asking(
    kind: str,
    text: str,
    returns: PortType,
    parameters: dict[str, Any],
    options: RouteOptions,
    *,
    image: bool = True,
    refs: bool = False,
    answer: Callable[[Turn], Any] | None = None,
) -> Step:
    """A step with a port for the picture, one for each name in the words, and one for refs."""
    words = _names_in(text, kind)
    ports = [Port(name="image", type=Image)] if image else []
    ports += [Port(name=word, type=WORDS) for word in words]
    if refs:
        ports.append(Port(name="refs", type=ITEMS, required=False, variadic=True))

    def request(*values: Any) -> AskRequest:
        picture, said = (values[0], values[1:]) if image else (None, values)
        # Also without names: it makes one brace of a doubled one.
        filled = text.format_map(dict(zip(words, said, strict=False)))
        return AskRequest(text=filled, image=picture, refs=tuple(said[len(words) :]))

    settings: dict[str, Any] = {name: value for name, value in options.items() if name in SETTINGS}
    return Step(
        kind=kind,
        ports=tuple(ports),
        run=_never,
        returns=returns,
        asks=Asks(
            request=request,
            answer=answer or (lambda turn: _answer(turn, returns)),
            settings=AskSettings.of(**settings),
        ),
        parameters={**parameters, **settings},
        name=options.get("name", ""),
        policies=policies_with(Policies(), _policies(options)),
    )


def _answer(turn: Turn, returns: PortType) -> Any:
    """The part of a turn that a step gives."""
    if returns is str:
        if turn.error:
            raise InputError(turn.error)
        made = [artifact.text for artifact in turn.artifacts if isinstance(artifact, Text)]
        return " ".join([turn.text, *made]).strip()
    if returns is dict:
        if turn.error:
            raise InputError(turn.error)
        for failure in turn.failures:
            raise StepError("", f"{failure.call_id}: {failure.error}", kind=failure.kind)
        return {"text": turn.text, "artifacts": list(turn.artifacts)}
    return first_of(turn, returns)


def _never(*values: Any) -> Any:
    raise WorkflowError("a step that asks the system runs inside a workflow only")


def _policies(options: RouteOptions) -> PolicyOptions:
    """All but the settings of asking; `policies_with` refuses what is none of them either."""
    own: Any = {name: value for name, value in options.items() if name not in SETTINGS}
    chosen: PolicyOptions = own
    return chosen


def _phrase(phrase: Any, step: str) -> str:
    if not isinstance(phrase, str) or not sentences.bare(phrase):
        raise InputError(f"step {step!r} needs words such as 'red circle', got {phrase!r}")
    return phrase.strip()


def _phrases(phrases: Sequence[Any], step: str) -> list[str]:
    if not phrases:
        raise InputError(f"step {step!r} needs words such as 'red circle', got none")
    return [_phrase(phrase, step) for phrase in phrases]


def _names_in(text: str, step: str) -> list[str]:
    """Names in braces, each once.

    Raises:
        InputError: braces that name nothing.
    """
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise InputError(f"step {step!r}: the braces in {text!r} do not match") from error
    for name in fields:
        if not name.isidentifier() or name in ("image", "refs"):
            raise InputError(
                f"step {step!r}: words in braces are names of ports such as {{colour}}, got {name!r}"
            )
    return list(dict.fromkeys(fields))
