"""A user's function as a step: its ports and their types are its parameters and annotations."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import typing
from collections.abc import Callable, Coroutine
from functools import cache, wraps
from typing import Any, overload

from typing_extensions import Unpack

from superlink.workflows.graph.context import StepContext
from superlink.workflows.graph.definition import Port, Step
from superlink.workflows.graph.errors import WorkflowError
from superlink.workflows.graph.policies import Policies, PolicyOptions, policies_with
from superlink.workflows.graph.port_types import normal

SEED = "seed"


@overload
def step(function: Callable[..., Any], /) -> Step: ...


@overload
def step(**options: Unpack[PolicyOptions]) -> Callable[[Callable[..., Any]], Step]: ...


def step(
    function: Callable[..., Any] | None = None, /, **options: Unpack[PolicyOptions]
) -> Step | Callable[[Callable[..., Any]], Step]:
    """Make a function a step: `@step`, or `@step(retry=2, timeout=5)`.

    Called on handles it joins their workflow; called on plain values it is the function it was. What has
    a default need not be given. A keyword parameter `seed` is filled with the seed of the run, other for
    every nested item. A coroutine function runs in an event loop of its own.

    Raises:
        WorkflowError: parameters that no port can stand for.
    """
    if function is None:
        return lambda chosen: _step(chosen, options)
    return _step(function, options)


def _step(function: Callable[..., Any], options: PolicyOptions) -> Step:
    if isinstance(function, Step):
        return function.using(**options)
    if not callable(function):
        raise WorkflowError(f"a step is made of a function, got {type(function).__name__}")
    name = getattr(function, "__name__", type(function).__name__)
    hints = _hints(function)
    ports = []
    parameters = _signature(function).parameters.values()
    seeded = any(one.name == SEED and one.kind is inspect.Parameter.KEYWORD_ONLY for one in parameters)
    for one in parameters:
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            raise WorkflowError(f"step {name!r}: ports have names, so **{one.name} cannot become one")
        if seeded and one.name == SEED:
            continue
        variadic = one.kind is inspect.Parameter.VAR_POSITIONAL
        required = one.default is inspect.Parameter.empty and not variadic
        ports.append(
            Port(
                name=one.name,
                type=normal(hints.get(one.name, Any)),
                variadic=variadic,
                required=required,
                default=None if required or variadic else one.default,
            )
        )
    return Step(
        kind="<lambda>" if name == "<lambda>" else name,
        ports=tuple(ports),
        run=_called(function, tuple(parameters), seeded=seeded),
        returns=normal(hints.get("return", Any)),
        contextual=seeded,
        function=function,
        name=options.get("name", "function" if name == "<lambda>" else ""),
        policies=policies_with(Policies(), options),
    )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError as error:  # some that are written in C
        name = getattr(function, "__name__", type(function).__name__)
        raise WorkflowError(f"step {name!r}: its parameters are not known; wrap it in a function") from error


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Types by parameter; a name that cannot be found is an error, since it would check nothing."""
    try:
        return typing.get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
    except NameError as error:
        name = getattr(function, "__name__", "")
        raise WorkflowError(
            f"step {name!r}: its annotations name {error.name!r}, which is not defined"
        ) from error


def _called(
    function: Callable[..., Any], parameters: tuple[inspect.Parameter, ...], *, seeded: bool
) -> Callable[..., Any]:
    """The function with values in the order of its ports."""
    run = _awaited(function) if inspect.iscoroutinefunction(function) else function
    named = [
        one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY and one.name != SEED
    ]
    if not named and not seeded:
        return run
    count = len(parameters) - len(named) - seeded
    many = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    if many and named:
        raise WorkflowError(
            f"step {getattr(function, '__name__', '')!r}: *{parameters[0].name} and keyword-only parameters "
            f"cannot both be ports; take a list in place of *{parameters[0].name}"
        )

    def ordered(*values: Any) -> Any:
        return run(*values[:count], **dict(zip(named, values[count:], strict=True)))

    def with_seed(context: StepContext, *values: Any) -> Any:
        if many:
            return run(*values, seed=context.seed)
        return run(*values[:count], **dict(zip(named, values[count:], strict=True)), seed=context.seed)

    return with_seed if seeded else ordered


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*values: Any, **named: Any) -> Any:
        outcome = asyncio.run_coroutine_threadsafe(_caught(function(*values, **named)), _loop()).result()
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome

    return run


class _Raised:
    """What a coroutine raised that would end the loop of all others, such as SystemExit."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _caught(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop for all coroutine steps: the caller's own may be the one that waits for them."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="superlink-async-steps").start()
    return loop


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loop.cache_clear)  # its thread does not come along
