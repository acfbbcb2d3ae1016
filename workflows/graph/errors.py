"""What goes wrong with a workflow: its definition, or one step for one item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superlink.router.errors import SuperlinkError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a definition."""

    message: str  # one line that names all of the following
    step: str = ""  # step, input or output
    port: str = ""
    expected: str = ""
    given: str = ""


class WorkflowError(SuperlinkError):
    """A workflow that cannot run, found before anything does. `problems` has all that was found."""

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        self.problems = (Problem(message=problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))

    @property
    def step(self) -> str:
        return self.problems[0].step

    @property
    def port(self) -> str:
        return self.problems[0].port

    @property
    def expected(self) -> str:
        return self.problems[0].expected

    @property
    def given(self) -> str:
        return self.problems[0].given


class StepError(SuperlinkError):
    """A step failed for one item. What depends on it was skipped and carries this same error.

    `__cause__` is what the step raised.
    """

    ok = False  # as `Result.ok`

    def __init__(
        self, step: str, cause: str, *, kind: str = "error", path: tuple[int, ...] = (), attempts: int = 1
    ) -> None:
        self.step = step
        self.cause = cause  # one line
        # "input" | "error" | "type" | "timeout" | "decoder" | "missing" | "cancelled"
        self.kind = kind
        self.path = path  # which of nested items: (2,) = the third crop
        self.attempts = attempts
        super().__init__(self._message())

    def _message(self) -> str:
        place = "".join(f"[{index}]" for index in self.path)
        times = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        return f"step {self.step!r}{place} failed: {self.cause}{times}"

    def __reduce__(self) -> tuple[object, ...]:
        return _step_error, (self.step, self.cause, self.kind, self.path, self.attempts)


def _step_error(step: str, cause: str, kind: str, path: tuple[int, ...], attempts: int) -> StepError:
    return StepError(step, cause, kind=kind, path=path, attempts=attempts)
