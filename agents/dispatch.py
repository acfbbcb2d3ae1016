"""From links to outcomes: builds decoder calls while the router writes and gathers the answers.

A decoder that gathers gets all links of one routing token in a reply as one call; any other
decoder gets a call for each link, as soon as the link is there. Where a route builds on another
(`Route.after`), that one's decoder answers the same links first, but for phrases that a person
pointed out ("region1"): a promptable decoder gets the click or box itself. Where a route takes links
of another token along (`Route.takes`), those get no call of their own. Outcomes come back in the
order in which their tokens first stand in the reply, whatever order they finish in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from superlink.agents.options import DecoderOptions
from superlink.agents.regions import Region, prompted_inputs, region_of
from superlink.decoders.artifacts import Artifact
from superlink.decoders.contract import Call, DecoderConfig, Failure, Outcome, Result, Route
from superlink.router.errors import InputError, SuperlinkError
from superlink.router.links import SuperLink
from superlink.router.tokens import RoutingToken


class Submits(Protocol):
    """The part of an engine that the dispatcher needs."""

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]: ...

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What the calls of one reply share."""

    image: NDArray[np.uint8] | None = None  # (H, W, 3)
    image_id: str = ""
    inputs: tuple[Artifact, ...] = ()  # earlier artifacts that the calls build on
    regions: Mapping[str, Region] = field(default_factory=dict)  # what a person pointed out, by its phrase
    options: DecoderOptions = field(default_factory=dict)
    seed: int = 0
    threshold: float | None = None
    deadline: float | None = None  # on the clock of `time.monotonic`


@dataclass(slots=True, eq=False)
class _Group:
    """Links of one reply that go into one call."""

    id: str
    decoder: str
    config: DecoderConfig | None  # None: no decoder here answers the token
    links: list[SuperLink]  # those taken along first
    future: Future[list[Outcome]] | None = None
    place: int = 0  # of the call within its submission

    @property
    def token(self) -> RoutingToken:
        """The one that is answered."""
        return self.links[-1].token


@dataclass(slots=True, eq=False)
class _Row:
    task: Task
    groups: list[_Group] = field(default_factory=list)  # in reply order


class Dispatcher:
    """Calls of one batch of replies."""

    def __init__(self, engine: Submits, tasks: Sequence[Task]) -> None:
        self._engine = engine
        self._rows = [_Row(task) for task in tasks]
        self._by_token = {route.token.text: config for config in engine.decoders for route in config.routes}
        self._routes = {route.token.text: route for config in engine.decoders for route in config.routes}

    def link(self, row: int, link: SuperLink) -> None:
        """Take a link; a decoder that does not gather starts at once."""
        config = self._by_token.get(link.token.text)
        name = link.token.decoder if config is None else config.name
        groups = self._rows[row].groups
        if config is None or config.gather:
            for group in groups:
                if group.config is config and group.token == link.token:
                    group.links.append(link.detached())
                    return
        number = sum(group.decoder == name for group in groups)
        group = _Group(f"{name}.{number}", name, config, [link.detached()])
        groups.append(group)
        if config is not None and not config.gather:
            self._start(name, [(self._rows[row].task, group)])

    def finish(self) -> None:
        """Every reply is written: start the decoders that gathered, each once for all replies."""
        waiting: dict[str, list[tuple[Task, _Group]]] = {}
        for state in self._rows:
            state.groups = self._joined(state.groups)
            for group in state.groups:
                if group.future is None:
                    waiting.setdefault(group.decoder, []).append((state.task, group))
        for decoder, groups in waiting.items():
            self._start(decoder, groups)

    def outcomes(self, row: int) -> list[Outcome]:
        """The outcomes of one reply, in reply order; waits no longer than its deadline."""
        state = self._rows[row]
        return [_wait(group, state.task.deadline) for group in state.groups]

    def cancel(self) -> None:
        """Give up what has not been answered yet."""
        for row in self._rows:
            for group in row.groups:
                if group.future is not None:
                    group.future.cancel()

    def _joined(self, groups: Sequence[_Group]) -> list[_Group]:
        """Groups that go into the calls of others leave the list."""
        taken: list[_Group] = []
        for group in groups:
            if group.config is None or group.future is not None:
                continue
            wanted = {token.text for token in self._routes[group.token.text].takes}
            along = [one for one in groups if one.future is None and one.token.text in wanted]
            group.links[:0] = [link for one in along for link in one.links]
            taken += along
        return [group for group in groups if group not in taken]

    def _start(self, decoder: str, groups: Sequence[tuple[Task, _Group]]) -> None:
        ready: dict[str | None, list[tuple[_Group, Call, Task]]] = {}  # by the routing token that goes first
        for task, group in groups:
            failure = self._refusal(task, group)
            if failure is None:
                after = self._routes[group.token.text].after if _unprompted(task, group) else None
                try:
                    call = _call(task, group, inputs=task.inputs if after is None else ())
                except InputError as error:
                    failure = Failure(call_id=group.id, error=str(error), kind="input")
                else:
                    ready.setdefault(after, []).append((group, call, task))
            if failure is not None:
                group.future = Future()
                group.future.set_result([failure])
        for after, members in ready.items():
            calls = [call for _, call, _ in members]
            if after is None:
                future = self._engine.submit(decoder, calls)
            else:
                future = self._chain(self._routes[after], decoder, members)
            for place, (group, _, _) in enumerate(members):
                group.place, group.future = place, future

    def _chain(
        self, first: Route, decoder: str, members: Sequence[tuple[_Group, Call, Task]]
    ) -> Future[list[Outcome]]:
        """Calls of `decoder` on what the decoder of route `first` makes of their unprompted links."""
        earlier = self._by_token[first.token.text].name
        asked = [
            replace(
                call,
                links=tuple(replace(link, token=first.token) for link in _unprompted(task, group)),
                inputs=task.inputs,
                options=task.options.get(earlier, {}),
            )
            for group, call, task in members
        ]
        calls = [call for _, call, _ in members]
        return _Chain(self._engine, decoder, calls, self._engine.submit(earlier, asked)).done

    def _refusal(self, task: Task, group: _Group) -> Failure | None:
        """Why a call cannot even be sent."""
        if group.config is None:
            known = ", ".join(sorted(self._by_token)) or "no routing token"
            error = f"nothing answers {group.token.text!r} here; the decoders answer {known}"
            return Failure(call_id=group.id, error=error, kind="decoder")
        if group.config.needs_image and task.image is None:
            error = f"{group.decoder!r} looks at a picture and there is none yet; give one with the question"
            return Failure(call_id=group.id, error=error, kind="input")
        takes = self._routes[group.token.text].takes
        if takes and group.links[0].token == group.token:
            wanted = " or ".join(token.text for token in takes)
            error = f"the reply has {group.token.text} but no {wanted} that it belongs to; name the objects"
            return Failure(call_id=group.id, error=error, kind="decoder")
        return None


class _Chain:
    """The second of two decoders, started by the first one's answer, in whichever thread gives it."""

    def __init__(
        self, engine: Submits, decoder: str, calls: Sequence[Call], first: Future[list[Outcome]]
    ) -> None:
        self.done: Future[list[Outcome]] = Future()
        self._engine, self._decoder, self._calls = engine, decoder, calls
        self._outcomes: list[Outcome | None] = [None] * len(calls)
        self._current = first
        self.done.add_done_callback(self._given_up)
        first.add_done_callback(self._go_on)

    def _given_up(self, done: Future[list[Outcome]]) -> None:
        if done.cancelled():
            self._current.cancel()

    def _go_on(self, first: Future[list[Outcome]]) -> None:
        if first.cancelled() or self.done.cancelled():
            self.done.cancel()
            return
        ready: list[tuple[int, Call]] = []
        for place, (call, outcome) in enumerate(zip(self._calls, first.result(), strict=True)):
            if isinstance(outcome, Result):
                ready.append((place, replace(call, inputs=(*call.inputs, outcome.artifact))))
            else:
                self._outcomes[place] = replace(outcome, call_id=call.id)
        places = [place for place, _ in ready]
        if not ready:
            self._finish([], [])
            return
        try:
            second = self._engine.submit(self._decoder, [call for _, call in ready])
        except (SuperlinkError, RuntimeError) as error:  # an engine that was closed meanwhile
            lost = [Failure(call_id=call.id, error=str(error), kind="lost") for _, call in ready]
            self._finish(places, lost)
            return
        self._current = second
        if self.done.cancelled():
            second.cancel()
        second.add_done_callback(lambda found: self._end(places, found))

    def _end(self, places: Sequence[int], second: Future[list[Outcome]]) -> None:
        if second.cancelled():
            self.done.cancel()
            return
        self._finish(places, second.result())

    def _finish(self, places: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        for place, outcome in zip(places, outcomes, strict=True):
            self._outcomes[place] = outcome
        if self.done.set_running_or_notify_cancel():
            self.done.set_result([outcome for outcome in self._outcomes if outcome is not None])


def _prompted(task: Task, group: _Group) -> bool:
    """Whether a phrase of the group is what a person pointed out, and its decoder takes that."""
    return (
        bool(task.regions)
        and group.config is not None
        and group.config.promptable
        and any(region_of(link.phrase, task.regions) is not None for link in group.links)
    )


def _unprompted(task: Task, group: _Group) -> list[SuperLink]:
    """The links that another decoder answers first, where the route says so."""
    if not _prompted(task, group):
        return group.links
    return [link for link in group.links if region_of(link.phrase, task.regions) is None]


def _call(task: Task, group: _Group, *, inputs: tuple[Artifact, ...]) -> Call:
    """The call of a group on `inputs`; on the prompts instead, where a person gave some for its phrases.

    Raises:
        InputError: prompts and earlier artifacts do not go together.
    """
    if _prompted(task, group):
        inputs = prompted_inputs([link.phrase for link in group.links], task.regions, task.inputs)
    return Call(
        id=group.id,
        links=tuple(group.links),
        image=task.image,
        image_id=task.image_id,
        inputs=inputs,
        seed=task.seed,
        threshold=task.threshold,
        options=task.options.get(group.decoder, {}),
    )


def _wait(group: _Group, deadline: float | None) -> Outcome:
    if group.future is None:
        return Failure(call_id=group.id, error="the reply was not finished", kind="cancelled")
    patience = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    try:
        return group.future.result(patience)[group.place]
    except FutureTimeoutError:
        error = f"{group.decoder!r} did not answer within the deadline"
        return Failure(call_id=group.id, error=error, kind="timeout")
    except CancelledError:
        return Failure(
            call_id=group.id, error=f"the call to {group.decoder!r} was cancelled", kind="cancelled"
        )
