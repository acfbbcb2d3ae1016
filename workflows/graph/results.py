"""What a workflow gives for one input."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables.utils import AddableDict

from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.frames import Item, errors_in, result_of
from superlink.workflows.graph.plan import Plan


class Result(dict[str, Any]):
    """Outputs by name. Nested outputs are lists; what could not be made is a `StepError` in its place."""

    def __init__(self, values: dict[str, Any], errors: tuple[StepError, ...] = ()) -> None:
        super().__init__(values)
        self.errors = errors  # of all steps, each once

    @property
    def ok(self) -> bool:
        """Whether every step went well for this input."""
        return not self.errors

    def __reduce__(self) -> tuple[Any, ...]:
        return Result, (dict(self), self.errors)


class Chunk(AddableDict):
    """Some outputs of a stream; chunks add up to the whole."""


def outcome_of(plan: Plan, item: Item) -> Result | StepError:
    """The outputs of a finished item; its error alone, where there is no output at all."""
    values = {output.name: result_of(item, output) for output in plan.outputs}
    found = [error for value in values.values() for error in errors_in(value)]
    found += [error for end in plan.ends for error in errors_in(result_of(item, end))]
    if not found:
        return Result(values)
    errors = tuple({id(error): error for error in found}.values())
    if all(isinstance(value, StepError) for value in values.values()):
        return errors[0]
    return Result(values, errors)
