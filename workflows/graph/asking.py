"""Steps that ask the system, run for several items at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superlink.workflows.graph.asks import AskRequest, ask_together
from superlink.workflows.graph.attempts import (
    attempt,
    checked,
    inner_error,
    recalled,
    within,
    worth_another,
)
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.frames import Frame, inputs_of
from superlink.workflows.graph.plan import Planned

if TYPE_CHECKING:
    from superlink.agents.turn import Turn
    from superlink.workflows.graph.context import Context

Task = tuple[Planned, Frame]


@dataclass(slots=True, eq=False)
class _Question:
    """One item of one step on its way through the system."""

    planned: Planned
    frame: Frame
    key: str | None = None
    request: AskRequest | None = None
    seen: Callable[[Any], None] = lambda value: None
    attempts: int = 0
    stack: ExitStack = field(default_factory=ExitStack)


def batch_key(task: Task, context: Context) -> tuple[object, ...]:
    """Questions with equal keys can go together."""
    planned, frame = task
    assert planned.step.asks is not None
    policies = planned.policies
    return planned.step.asks.settings, context.seed(planned, frame), policies.timeout, policies.retry


def ask_all(tasks: Sequence[Task], context: Context, done: Callable[[Planned, Frame, Any], None]) -> None:
    """Answer every task, in one batch as far as possible; each is reported as soon as it is decided.

    Args:
        tasks: with equal `batch_key`.
        context: of the run.
        done: takes the value or `StepError` of a task.
    """
    waiting = [question for task in tasks if (question := _begun(task, context, done)) is not None]
    while waiting:
        again: list[_Question] = []
        for question, value in zip(waiting, _answers(waiting, context), strict=True):
            retry = question.planned.policies.retry
            failed = isinstance(value, StepError)
            if failed and question.attempts <= retry.times and worth_another(value):
                again.append(question)
            else:
                _finish(question, value, context, done)
        if again:
            context.wait(max(one.planned.policies.retry.pause(one.attempts) for one in again))
        waiting = again


def _begun(task: Task, context: Context, done: Callable[[Planned, Frame, Any], None]) -> _Question | None:
    """The question of a task; None where it is decided already."""
    planned, frame = task
    asks = planned.step.asks
    assert asks is not None
    values = inputs_of(planned, frame)
    if isinstance(values, StepError):
        done(planned, frame, values)
        return None
    question = _Question(planned, frame)
    observer = frame.item.observer
    if observer is not None:
        question.seen = question.stack.enter_context(observer.step(planned.name, planned.step, values))
    try:
        cache = context.cache_for(planned)
        if cache is not None:
            question.key, found = recalled(planned, frame, values, context, cache)
            if found is not None:
                _finish(question, found[0], None, done)
                return None
        question.request = attempt(planned, frame, asks.request, values)
    except StepError as error:
        _finish(question, error, None, done)
        return None
    return question


def _answers(questions: Sequence[_Question], context: Context) -> list[Any]:
    """A value or an error for every question; where asking fails as a whole, each is asked alone."""
    try:
        turns = _turns(questions, context)
    except StepError as error:
        if len(questions) > 1 and error.kind != "timeout":
            return [_answers([question], context)[0] for question in questions]
        for question in questions:
            question.attempts += 1
        return [_own(question, error) for question in questions]
    values = []
    for question, turn in zip(questions, turns, strict=True):
        planned, frame = question.planned, question.frame
        question.attempts += 1
        assert planned.step.asks is not None
        try:
            made = attempt(planned, frame, planned.step.asks.answer, (turn,), attempts=question.attempts)
            values.append(checked(planned, frame, made))
        except StepError as error:
            values.append(error)
    return values


def _turns(questions: Sequence[_Question], context: Context) -> list[Turn]:
    first = questions[0]
    planned, frame = first.planned, first.frame
    assert planned.step.asks is not None
    settings, timeout = planned.step.asks.settings, planned.policies.timeout
    seed = context.seed(planned, frame)
    requests = [question.request for question in questions if question.request is not None]

    def asked(some: Sequence[AskRequest]) -> list[Turn]:
        return ask_together(context.system_of(), some, settings, seed=seed, deadline=timeout)

    # Its time begins when it is asked: what waits for the gate has not been tried yet.
    timed = asked if timeout is None else within(timeout, asked)

    def together(some: Sequence[AskRequest]) -> list[Turn] | StepError:
        try:
            turns: list[Turn] = attempt(planned, frame, timed, (some,))
        except StepError as error:
            return error
        return turns

    def ask() -> list[Turn]:
        turns = context.desk.ask((settings, seed, timeout), requests, together)
        if isinstance(turns, StepError):
            bare = StepError("", turns.cause, kind=turns.kind)
            raise bare from (turns.__cause__ or turns)
        return turns

    turns: list[Turn] = attempt(planned, frame, ask, ())
    return turns


def _own(question: _Question, error: StepError) -> StepError:
    """An error of the batch as that of one of its questions."""
    same = error.step == question.planned.name and error.path == question.frame.path
    if same and error.attempts == question.attempts:
        return error
    bare = StepError("", error.cause, kind=error.kind)
    own = inner_error(question.planned, question.frame, bare, question.attempts)
    own.__cause__ = error.__cause__
    return own


def _finish(
    question: _Question,
    value: Any,
    context: Context | None,
    done: Callable[[Planned, Frame, Any], None],
) -> None:
    """Report a value, kept first if it was made; or an error."""
    planned, frame = question.planned, question.frame
    cache = None if context is None or isinstance(value, StepError) else context.cache_for(planned)
    if cache is not None:
        try:
            attempt(planned, frame, cache.keep, (question.key, value))
        except StepError as error:
            value = error
    if isinstance(value, StepError):
        question.stack.__exit__(type(value), value, value.__traceback__)
    else:
        question.seen(value)
        question.stack.close()
    done(planned, frame, value)
