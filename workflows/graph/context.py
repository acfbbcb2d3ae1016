"""What steps of one run share: the system, the cache, the seed."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import Self

from superlink.workflows.graph.attempts import pause
from superlink.workflows.graph.desk import AskDesk
from superlink.workflows.graph.digests import digest, step_identity, system_identity
from superlink.workflows.graph.frames import Frame
from superlink.workflows.graph.plan import Planned

if TYPE_CHECKING:
    from superlink.agents.system import System


class Cache(Protocol):
    """Values of steps by what they follow from."""

    replays: bool  # nothing that asks the system may be made anew

    def find(self, key: str | None) -> tuple[Any] | None:
        """The value in a tuple; None where there is none."""

    def keep(self, key: str | None, value: Any) -> None: ...

    def system(self, identity: Callable[[], str]) -> str:
        """Which system the values are of; a recording knows its own."""


@dataclass(slots=True, eq=False)
class Context:
    """Shared by all steps and items of a run, and by runs inside it."""

    system_of: Callable[[], System]
    cache: Cache | None = None
    asks: int = 1  # batches of questions at the same time
    threads: int = 16
    stopped: threading.Event = field(default_factory=threading.Event)
    hands: threading.Semaphore | None = None  # helpers of all runs together; given by the outermost
    desk: AskDesk = field(init=False)
    within: str = ""  # the way to this run from the outermost one; "" for that itself
    _identities: dict[int, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.desk = AskDesk(self.asks)

    def cache_for(self, planned: Planned) -> Cache | None:
        """The cache, where the step is worth keeping."""
        step = planned.step
        own = step.contextual and step.function is None  # what runs inside is kept by itself
        if self.cache is None or step.light or own or step.opens or step.filters:
            return None
        if step.asks is not None and self.cache.replays:
            return self.cache
        return self.cache if planned.policies.cache else None

    def key(self, planned: Planned, values: Sequence[Any], frame: Frame) -> str | None:
        """A hash of everything that the value follows from; None where something has none."""
        if id(planned) not in self._identities:
            self._identities[id(planned)] = step_identity(planned.step)
        identity = self._identities[id(planned)]
        inputs = digest(list(values), names=planned.step.function is not None)
        if identity is None or inputs is None:
            return None
        parts = [identity, inputs]
        if planned.step.asks is not None:
            assert self.cache is not None
            parts.append(self.cache.system(lambda: system_identity(self.system_of())))
            parts.append(str(self.seed(planned, frame)))
        elif planned.step.contextual:
            parts.append(str(self.of(planned, frame).seed))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def seed(self, planned: Planned, frame: Frame) -> int:
        return frame.item.seed if planned.policies.seed is None else planned.policies.seed

    def of(self, planned: Planned, frame: Frame) -> StepContext:
        """What a step that asks for it is handed."""
        return StepContext(self, planned, frame)

    def inside(self, way: str) -> Self:
        """For a run inside a step: shares everything, and its steps have seeds of their own."""
        inner = copy.copy(self)
        inner.within = f"{self.within}{way}>"
        return inner

    def wait(self, seconds: float) -> None:
        pause(seconds, self.stopped)


@dataclass(slots=True, eq=False)
class StepContext:
    """What one step may know of the run that it is part of."""

    shared: Context
    planned: Planned
    frame: Frame

    @property
    def seed(self) -> int:
        """Of this step and nested item: the same in every run with the same seed."""
        base = self.shared.seed(self.planned, self.frame)
        text = f"{base}/{self.shared.within}{self.planned.name}/{self.frame.path}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    @property
    def run_seed(self) -> int:
        """Of the whole run, or the step's own: what questions to the system are asked with."""
        return self.shared.seed(self.planned, self.frame)
