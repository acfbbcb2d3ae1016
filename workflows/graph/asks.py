"""What steps that ask the system hand to the executor, so that requests that are ready together go as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superlink.agents.questions import checked_threshold
from superlink.decoders.artifacts import Artifact
from superlink.router.errors import InputError
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.policies import checked_count

if TYPE_CHECKING:
    from superlink.agents.pictures import PictureLike
    from superlink.agents.system import System
    from superlink.agents.turn import Turn

MOST = 8  # requests of one batch: one generation and one decoder call


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """What all requests of one batch share."""

    threshold: float | None = None
    max_new_tokens: int | None = None
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False, compare=False)
    shown: str = ""  # `options` in a form that can be compared

    @classmethod
    def of(
        cls,
        *,
        threshold: float | None = None,
        max_new_tokens: int | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
    ) -> AskSettings:
        """Settings as `System.ask` takes them.

        Raises:
            InputError: one that no system could use.
        """
        if max_new_tokens is not None:
            checked_count(max_new_tokens, "max_new_tokens")
        given: object = options or {}
        if not isinstance(given, Mapping) or any(not isinstance(own, Mapping) for own in given.values()):
            raise InputError(
                'options are given by decoder, as in {"stable_diffusion": {"steps": 20}}, '
                f"got {options!r}"
            )
        own = {decoder: dict(sorted(given.items())) for decoder, given in sorted((options or {}).items())}
        return cls(
            threshold=checked_threshold(threshold),
            max_new_tokens=max_new_tokens,
            options=own,
            shown=repr(own),
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `System.ask` for what was set."""
        given: dict[str, Any] = {}
        if self.threshold is not None:
            given["threshold"] = self.threshold
        if self.max_new_tokens is not None:
            given["max_new_tokens"] = self.max_new_tokens
        if self.options:
            given["options"] = {decoder: dict(own) for decoder, own in self.options.items()}
        return given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskRequest:
    """One question to the system."""

    text: str
    image: Image | None = None
    refs: tuple[Artifact, ...] = ()  # what the answer keeps to; such a question goes alone


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asks:
    """The two halves of a step that asks: values to a request, a turn to a value."""

    request: Callable[..., AskRequest]  # (*values)
    answer: Callable[[Turn], Any]
    settings: AskSettings = field(default_factory=AskSettings)


def ask_together(
    system: System,
    requests: Sequence[AskRequest],
    settings: AskSettings,
    *,
    seed: int,
    deadline: float | None,
) -> list[Turn]:
    """One turn a request. Those with and those without a picture go as one batch each.

    Raises:
        SuperlinkError: nothing could be asked; and whatever else the engine raises.
    """
    shared = settings.arguments() | {"seed": seed}
    if deadline is not None:
        shared["deadline"] = deadline
    turns: dict[int, Turn] = {}
    for with_picture in (True, False):
        rows = [
            k for k, one in enumerate(requests) if (one.image is not None) == with_picture and not one.refs
        ]
        texts = [requests[k].text for k in rows]
        images: list[PictureLike] = [image for k in rows if (image := requests[k].image) is not None]
        if len(rows) == 1:
            found = [system.ask(texts[0], image=images[0] if images else None, **shared)]
        elif rows:
            found = system.ask(texts, image=images, **shared) if images else system.ask(texts, **shared)
        else:
            continue
        turns |= zip(rows, found, strict=True)
    for k, one in enumerate(requests):
        if one.refs:
            turns[k] = system.session().ask(one.text, image=one.image, refs=one.refs, **shared)
    return [turns[k] for k in range(len(requests))]


def first_of(turn: Turn, kind: type[Any]) -> Any:
    """The first artifact of a kind.

    Raises:
        StepError: the turn has none; the reason is that of its decoder, where one failed.
    """
    if turn.error:
        raise InputError(turn.error)
    for artifact in turn.artifacts:
        if isinstance(artifact, kind):
            return artifact
    for failure in turn.failures:
        raise StepError("", f"{failure.call_id}: {failure.error}", kind=failure.kind)
    have = ", ".join(type(artifact).__name__ for artifact in turn.artifacts) or "no artifact"
    raise StepError("", f"the reply has {have} in place of {kind.__name__}: {turn.text!r}", kind="decoder")
