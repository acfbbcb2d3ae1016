"""From links to outcomes: builds decoder calls while the router writes and gathers the answers.

A decoder that gathers gets all links of one routing token in a reply as one call; any other
decoder gets a call for each link, as soon as the link is there. A call that gathers starts as soon
as it looks complete: when a link of another token comes, or the sentence has ended. If more belongs
to it after all, that call is given up and made anew when the reply is written. Where a route builds
on another (`Route.after`), that one's decoder answers the same links first, but for phrases that a person
pointed out ("region1"): a promptable decoder gets the click or box itself. Where a route takes links
of another token along (`Route.takes`), those get no call of their own. Outcomes come back in the
order in which their tokens first stand in the reply, whatever order they finish in.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from superlink.agents.chain import Chain, Submits
from superlink.agents.options import DecoderOptions
from superlink.agents.regions import Region, prompted_inputs, region_of
from superlink.decoders.artifacts import Artifact
from superlink.decoders.contract import Call, DecoderConfig, Failure, Outcome, Route
from superlink.router.errors import InputError
from superlink.router.links import SuperLink
from superlink.router.tokens import RoutingToken

_SENTENCE_END = re.compile(r"[.!?]\s|\n")


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
    own: list[SuperLink]  # those of the token that is answered
    links: list[SuperLink] = field(default_factory=list)  # of the call: own ones after those taken along
    future: Future[list[Outcome]] | None = None
    place: int = 0  # of the call within its submission
    hasty: bool = False  # was started before it was complete

    @property
    def token(self) -> RoutingToken:
        """The one that is answered."""
        return self.own[-1].token

    @property
    def gathers(self) -> bool:
        return self.config is not None and self.config.gather


@dataclass(slots=True, eq=False)
class _Row:
    task: Task
    groups: list[_Group] = field(default_factory=list)  # in reply order
    since: str = ""  # what people read since the last link


class Dispatcher:
    """Calls of one batch of replies."""

    def __init__(self, engine: Submits, tasks: Sequence[Task], *, early: bool = True) -> None:
        """
        Args:
            early: start decoders that gather as soon as their calls look complete, not when all
                replies are written. Outcomes are the same.
        """
        self._engine = engine
        self._early = early
        self._rows = [_Row(task) for task in tasks]
        self._by_token = {route.token.text: config for config in engine.decoders for route in config.routes}
        self._routes = {route.token.text: route for config in engine.decoders for route in config.routes}

    def link(self, row: int, link: SuperLink) -> None:
        """Take a link; a decoder that does not gather starts at once."""
        state = self._rows[row]
        group = self._group(state, link)
        state.since = ""
        if group.config is not None and not group.config.gather:
            group.links = group.own
            self._start(group.decoder, [(state.task, group)])
            return
        calls = self._calls(state.groups)
        for one in state.groups:
            if one.gathers and one.future is not None and calls.get(one) != one.links:
                # Started too early: more belongs to it, or it belongs to another call.
                one.future.cancel()
                one.future, one.hasty = None, True
        if self._early:
            done = [one for one, links in calls.items() if all(each.token != link.token for each in links)]
            self._start_early(state, done, calls)

    def text(self, row: int, text: str) -> None:
        """Take more of what people read; the end of a sentence is likely the end of its groups."""
        state = self._rows[row]
        state.since += text
        if self._early and state.groups and _SENTENCE_END.search(state.since):
            state.since = ""
            calls = self._calls(state.groups)
            self._start_early(state, list(calls), calls)

    def written(self, row: int) -> None:
        """One reply is written, so its calls are complete."""
        if self._early:
            self._finish([self._rows[row]])

    def finish(self) -> None:
        """Every reply is written: start the decoders that gathered, each once for all replies."""
        self._finish(self._rows)

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

    def _finish(self, rows: Sequence[_Row]) -> None:
        waiting: dict[str, list[tuple[Task, _Group]]] = {}
        for state in rows:
            calls = self._calls(state.groups)
            state.groups = [group for group in state.groups if group in calls or not self._may_wait(group)]
            for group, links in calls.items():
                if group.future is None:
                    group.links = links
                    waiting.setdefault(group.decoder, []).append((state.task, group))
        for decoder, groups in waiting.items():
            self._start(decoder, groups)

    def _group(self, state: _Row, link: SuperLink) -> _Group:
        """The group that a link belongs to, a new one if need be."""
        config = self._by_token.get(link.token.text)
        name = link.token.decoder if config is None else config.name
        if config is None or config.gather:
            for group in state.groups:
                if group.config is config and group.token == link.token:
                    # A router that stammers names a thing twice; found twice, it would be counted twice.
                    if not link.phrase or all(one.phrase != link.phrase for one in group.own):
                        group.own.append(link.detached())
                    return group
        number = sum(group.decoder == name for group in state.groups)
        group = _Group(f"{name}.{number}", name, config, [link.detached()])
        state.groups.append(group)
        return group

    @staticmethod
    def _may_wait(group: _Group) -> bool:
        """Whether a group starts later than its first link comes."""
        return group.config is None or group.config.gather

    def _calls(self, groups: Sequence[_Group]) -> dict[_Group, list[SuperLink]]:
        """The links of every call of groups that may wait; groups that go into calls of others have none."""
        calls: dict[_Group, list[SuperLink]] = {}
        taken: list[_Group] = []
        waiting = [group for group in groups if self._may_wait(group)]
        for group in waiting:
            wanted: set[str] = set()
            if group.config is not None:
                wanted = {token.text for token in self._routes[group.token.text].takes}
            along = [one for one in waiting if one.token.text in wanted]
            calls[group] = [link for one in (*along, group) for link in one.own]
            taken += along
        return {group: links for group, links in calls.items() if group not in taken}

    def _start_early(
        self, state: _Row, groups: Sequence[_Group], calls: Mapping[_Group, list[SuperLink]]
    ) -> None:
        """Start what looks complete, each in a submission of its own, which can be given up alone.

        A call that was given up once waits for the end, so that none is made more than twice.
        """
        for group in groups:
            if group.gathers and group.future is None and not group.hasty:
                group.links = calls[group]
                self._start(group.decoder, [(state.task, group)])

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
        return Chain(self._engine, decoder, calls, self._engine.submit(earlier, asked)).done

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
    # No wait can be longer than the platform's; nobody lives to see the difference.
    patience = None if deadline is None else min(max(deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX)
    try:
        return group.future.result(patience)[group.place]
    except FutureTimeoutError:
        error = f"{group.decoder!r} did not answer within the deadline"
        return Failure(call_id=group.id, error=error, kind="timeout")
    except CancelledError:
        return Failure(
            call_id=group.id, error=f"the call to {group.decoder!r} was cancelled", kind="cancelled"
        )
