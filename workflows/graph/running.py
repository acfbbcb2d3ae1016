"""Runs of one plan as LangChain calls them: one input, many inputs, a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Literal

from langchain_core.callbacks import CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_callback_manager_for_config,
    run_in_executor,
)

from superlink.router.errors import InputError
from superlink.workflows.graph.context import Context
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.frames import Item, errors_in, result_of
from superlink.workflows.graph.inputs import Entry
from superlink.workflows.graph.observing import observer_of
from superlink.workflows.graph.plan import Plan
from superlink.workflows.graph.results import Chunk, Result, outcome_of
from superlink.workflows.graph.run import Made, Run

# "raise", or "return" what could be made; "exceptions": return, but an error for anything incomplete.
Errors = Literal["raise", "return", "exceptions"]


def invoked(
    plan: Plan,
    context: Context,
    value: Any,
    manager: CallbackManagerForChainRun,
    seed: int,
    errors: Errors,
) -> Result | StepError:
    """The outputs for one input."""
    _check_mode(errors)
    entry = Entry(0, value, seed, observer_of(manager))
    (item,) = Run(plan, context).results(iter((entry,)))
    assert isinstance(item, Item)
    return _decided(outcome_of(plan, item), errors)


def as_completed(
    plan: Plan,
    context: Context,
    inputs: Iterable[Any],
    config: RunnableConfig | list[RunnableConfig] | None,
    *,
    name: str,
    errors: Errors,
    window: int,
    seed: int,
) -> Iterator[tuple[int, Result | StepError, dict[str, Any]]]:
    """Index, outcome and inputs as they were read, of every input as it finishes."""
    _check_mode(errors)
    if isinstance(inputs, str | bytes | Mapping) or not isinstance(inputs, Iterable):
        what = type(inputs).__name__
        raise InputError(f"a batch takes a list of inputs, got {what}; invoke takes a single one")
    managers: dict[int, CallbackManagerForChainRun] = {}

    def entries() -> Iterator[Entry]:
        for index, value in enumerate(inputs):
            if isinstance(config, list) and index >= len(config):
                raise InputError(
                    f"more inputs than the {len(config)} configs; pass one for all or one for each"
                )
            own = ensure_config(config[index] if isinstance(config, list) else config)
            manager = get_callback_manager_for_config(own)
            managers[index] = manager.on_chain_start(None, value, name=own.get("run_name") or name)
            yield Entry(index, value, seed, observer_of(managers[index]))

    run = Run(plan, context, window=window, inline=context.threads == 1)
    results = run.results(entries())
    try:
        for item in results:
            assert isinstance(item, Item)
            outcome = outcome_of(plan, item)
            manager = managers.pop(item.index)
            if isinstance(outcome, StepError):
                manager.on_chain_error(outcome)
            else:
                manager.on_chain_end(outcome)
            given = {node.name: item.root.values[slot] for node, slot in plan.inputs}
            yield item.index, _decided(outcome, errors), given
    finally:
        results.close()  # type: ignore[attr-defined]  # a generator
        for manager in managers.values():
            manager.on_chain_error(StepError(name, "the batch was stopped", kind="cancelled"))


def streamed(
    plan: Plan,
    context: Context,
    value: Any,
    manager: CallbackManagerForChainRun,
    seed: int,
    errors: Errors,
) -> Iterator[Chunk]:
    """Outputs as they are made; those of nested items when all of them are there."""
    _check_mode(errors)
    entry = Entry(0, value, seed, observer_of(manager))
    run = Run(plan, context, inline=False, streams=True)
    given: set[str] = set()
    for news in run.results(iter((entry,))):
        item = news.item if isinstance(news, Made) else news
        for output in [news.output] if isinstance(news, Made) else plan.outputs:
            made = result_of(item, output)
            if output.name not in given and (errors == "return" or not errors_in(made)):
                given.add(output.name)
                yield Chunk({output.name: made})
        if isinstance(news, Item):
            outcome = outcome_of(plan, item)
            if errors != "return":
                _decided(outcome, "raise")


async def streamed_async(chunks: Iterator[Chunk], context: Context) -> AsyncIterator[Chunk]:
    """Chunks of a stream that another thread makes; leaving it stops the run after the current step.

    Args:
        context: of the run.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Chunk | None] = asyncio.Queue()
    left = threading.Event()

    def produce() -> None:
        try:
            for chunk in chunks:
                loop.call_soon_threadsafe(queue.put_nowait, chunk)
                if left.is_set():
                    break
        except StepError:
            if not left.is_set():  # nobody hears of it
                raise
        finally:
            chunks.close()  # type: ignore[attr-defined]  # a generator
            loop.call_soon_threadsafe(queue.put_nowait, None)

    task = asyncio.ensure_future(run_in_executor(None, produce))
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
    finally:
        left.set()
        context.stopped.set()
    await task


def _decided(outcome: Result | StepError, errors: Errors) -> Result | StepError:
    if errors == "return":
        return outcome
    error = outcome if isinstance(outcome, StepError) else next(iter(outcome.errors), None)
    if error is None:
        return outcome
    if errors == "raise":
        raise error
    return error


def _check_mode(errors: str) -> None:
    if errors not in ("raise", "return", "exceptions"):
        raise InputError(f"errors are 'raise' or 'return', got {errors!r}")
