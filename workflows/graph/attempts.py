"""One step for one item: called, timed out, tried again, looked up. It ends in a value or a `StepError`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any

from superlink.agents.pictures import one_line
from superlink.router.errors import InputError
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.frames import Frame
from superlink.workflows.graph.plan import Planned
from superlink.workflows.graph.port_types import holds, name_of

if TYPE_CHECKING:
    from superlink.workflows.graph.context import Cache, Context


def performed(planned: Planned, frame: Frame, values: Sequence[Any], context: Context) -> Any:
    """What a step gives for one item, or the error that it carries from here on."""
    observer = frame.item.observer
    try:
        if observer is None:
            return _looked_up(planned, frame, values, context)
        with observer.step(planned.name, planned.step, values) as seen:
            value = _looked_up(planned, frame, values, context)
            seen(value)
            return value
    except StepError as error:
        return error


def _looked_up(planned: Planned, frame: Frame, values: Sequence[Any], context: Context) -> Any:
    """The value from the cache, else made and kept."""
    cache = context.cache_for(planned)
    if cache is None:
        return _tried(planned, frame, values, context)
    key, found = recalled(planned, frame, values, context, cache)
    if found is not None:
        return found[0]
    value = _tried(planned, frame, values, context)
    attempt(planned, frame, cache.keep, (key, value))
    return value


def recalled(
    planned: Planned, frame: Frame, values: Sequence[Any], context: Context, cache: Cache
) -> tuple[str | None, tuple[Any] | None]:
    """Under which key a value is kept, and the value in a tuple, if it is.

    Raises:
        StepError: the cache cannot be read, or is a recording that lacks it.
    """

    def look() -> tuple[str | None, tuple[Any] | None]:
        key = context.key(planned, values, frame)
        kept = cache.find(key)
        if kept is None and cache.replays and planned.step.asks is not None:
            cause = "the recording has no value for these inputs; record the run again"
            raise StepError("", cause, kind="missing")
        return key, kept

    found: tuple[str | None, tuple[Any] | None] = attempt(planned, frame, look, ())
    return found


def _tried(planned: Planned, frame: Frame, values: Sequence[Any], context: Context) -> Any:
    """All attempts.

    Raises:
        StepError: none went well.
    """
    if planned.plain:
        return checked(planned, frame, attempt(planned, frame, planned.step.run, values))
    retry, timeout = planned.policies.retry, planned.policies.timeout
    run: Callable[..., Any] = planned.step.run
    if planned.step.contextual:
        own = context.of(planned, frame)
        values = (own, *values)
    number = 1
    while True:
        try:
            if timeout is None:
                value = attempt(planned, frame, run, values, attempts=number)
            else:
                value = attempt(planned, frame, within(timeout, run), values, attempts=number)
            return checked(planned, frame, value)
        except StepError as error:
            if number > retry.times or not worth_another(error):
                raise
            context.wait(retry.pause(number))
            number += 1


def worth_another(error: StepError) -> bool:
    """Whether another attempt can end otherwise."""
    return error.kind not in ("input", "type", "missing", "cancelled")


def attempt(
    planned: Planned, frame: Frame, run: Callable[..., Any], values: Sequence[Any], *, attempts: int = 1
) -> Any:
    """Call once; whatever goes wrong becomes a `StepError` of this step and item."""
    try:
        return run(*values)
    except StepError as error:
        raise inner_error(planned, frame, error, attempts) from (error.__cause__ or error)
    except (asyncio.CancelledError, CancelledError) as error:
        # The first is no Exception, and would end a whole batch that nobody cancelled.
        said = one_line(error)
        raise StepError(planned.name, said, kind="cancelled", path=frame.path, attempts=attempts) from error
    except Exception as error:  # a step is the user's code: whatever it raises ends its own item alone
        kind = "input" if isinstance(error, InputError) else "error"
        said = one_line(error)
        cause = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
        raise StepError(planned.name, cause, kind=kind, path=frame.path, attempts=attempts) from error


def inner_error(planned: Planned, frame: Frame, error: StepError, attempts: int = 1) -> StepError:
    """The error of a part of a step, as an error of the step: "rounds.refine"."""
    name = f"{planned.name}.{error.step}" if error.step else planned.name
    return StepError(
        name,
        error.cause,
        kind=error.kind,
        path=frame.path + error.path,
        attempts=max(attempts, error.attempts),
    )


def checked(planned: Planned, frame: Frame, value: Any) -> Any:
    """The value, if it is of the type that the step promises.

    Raises:
        StepError: it is not.
    """
    step = planned.step
    if step.filters or planned.fits is None:
        return value
    if step.opens:
        if isinstance(value, list | tuple) and all(planned.fits(one) for one in value):
            return value
        expected = f"a list of {name_of(planned.returns)}"
    elif planned.fits(value) or holds(value, planned.returns):
        return value
    else:
        expected = name_of(planned.returns)
    cause = f"expected {expected} as its result, got {type(value).__name__}"
    raise StepError(planned.name, cause, kind="type", path=frame.path)


def within(seconds: float, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` in a thread that is left behind when it takes longer: Python cannot stop it."""

    def limited(*values: Any) -> Any:
        done: Future[Any] = Future()
        context = copy_context()

        def work() -> None:
            with _Into(done):
                done.set_result(context.run(run, *values))

        threading.Thread(target=work, daemon=True, name="superlink-step").start()
        try:
            return done.result(seconds)
        except FutureTimeoutError as error:
            if done.done():  # the step's own
                raise
            raise StepError("", f"took longer than {seconds:g} s", kind="timeout") from error

    return limited


class _Into:
    """Hands whatever is raised inside to who waits for the future."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self._future.set_exception(error)
        return True


def pause(seconds: float, stopped: threading.Event) -> None:
    """Wait between attempts, no longer than the run goes on."""
    if seconds > 0 and stopped.wait(seconds):
        raise StepError("", "the run was stopped", kind="cancelled")
    if seconds <= 0:
        time.sleep(0)
