"""What a workflow gives for one input."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables.utils import AddableDict

from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.frames import Item, all_errors, errors_in, result_of
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
    errors = errors_of(plan, item)
    if errors and all(isinstance(value, StepError) for value in values.values()):
        return errors[0]
    return Result(values, errors)


def errors_of(plan: Plan, item: Item) -> tuple[StepError, ...]:
    """All that went wrong in a finished item, each once: first what outputs lack, then the rest.

    What was skipped because of an error carries that same error. Nested items that a step was told to
    leave out when they fail, and that nothing else lacks, are no errors.
    """
    told = [error for one in (*plan.outputs, *plan.ends) for error in errors_in(result_of(item, one))]
    told += all_errors(plan, item)
    return tuple({id(error): error for error in told}.values())
