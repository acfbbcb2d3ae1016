"""From links to outcomes: builds decoder calls while the router writes and gathers the answers.

A decoder that gathers gets all links of one routing token in a reply as one call; any other
decoder gets a call for each link, as soon as the link is there. Outcomes come back in the order
in which their first links stand in the reply, whatever order they finish in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from superlink.decoders.artifacts import Artifact
from superlink.decoders.contract import Call, DecoderConfig, Failure, Outcome
from superlink.router.links import SuperLink


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
    inputs: tuple[Artifact, ...] = ()
    seed: int = 0
    threshold: float | None = None
    deadline: float | None = None  # on the clock of `time.monotonic`


@dataclass(slots=True, eq=False)
class _Group:
    """Links of one reply that go into one call."""

    id: str
    decoder: str
    config: DecoderConfig | None  # None: no decoder here answers the token
    links: list[SuperLink]
    future: Future[list[Outcome]] | None = None
    place: int = 0  # of the call within its submission


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

    def link(self, row: int, link: SuperLink) -> None:
        """Take a link; a decoder that does not gather starts at once."""
        config = self._by_token.get(link.token.text)
        name = link.token.decoder if config is None else config.name
        groups = self._rows[row].groups
        if config is None or config.gather:
            for group in groups:
                if group.config is config and group.links[0].token == link.token:
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
            for group in state.groups:
                if group.future is None:
                    waiting.setdefault(group.decoder, []).append((state.task, group))
        for decoder, groups in waiting.items():
            self._start(decoder, groups)

    def outcomes(self, row: int) -> list[Outcome]:
        """The outcomes of one reply, in reply order; waits no longer than its deadline."""
        state = self._rows[row]
        return [_wait(group, state.task.deadline) for group in state.groups]

    def _start(self, decoder: str, groups: Sequence[tuple[Task, _Group]]) -> None:
        calls: list[Call] = []
        ready: list[_Group] = []
        for task, group in groups:
            failure = self._refusal(task, group)
            if failure is not None:
                group.future = Future()
                group.future.set_result([failure])
                continue
            group.place = len(calls)
            calls.append(_call(task, group))
            ready.append(group)
        if calls:
            future = self._engine.submit(decoder, calls)
        for group in ready:
            group.future = future

    def _refusal(self, task: Task, group: _Group) -> Failure | None:
        """Why a call cannot even be sent."""
        if group.config is None:
            known = ", ".join(sorted(self._by_token)) or "no routing token"
            error = f"nothing answers {group.links[0].token.text!r} here; the decoders answer {known}"
            return Failure(call_id=group.id, error=error, kind="decoder")
        if group.config.needs_image and task.image is None:
            error = f"{group.decoder!r} looks at a picture and there is none yet; give one with the question"
            return Failure(call_id=group.id, error=error, kind="input")
        return None


def _call(task: Task, group: _Group) -> Call:
    return Call(
        id=group.id,
        links=tuple(group.links),
        image=task.image,
        image_id=task.image_id,
        inputs=task.inputs,
        seed=task.seed,
        threshold=task.threshold,
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
