"""Steps of a run as child runs of LangChain's callbacks; only made where somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import CallbackManagerForChainRun
from langchain_core.runnables.config import patch_config, var_child_runnable_config

from superlink.workflows.graph.definition import Step


class StepObserver:
    """Reports every step of one item under the run of that item."""

    def __init__(self, manager: CallbackManagerForChainRun) -> None:
        self._manager = manager

    @contextmanager
    def step(
        self, name: str, step: Step, values: Sequence[Any]
    ) -> Generator[Callable[[Any], None], None, None]:
        """Around one step; yields what takes its value. An error is reported and goes on."""
        names = [port.name for port in step.ports]
        names += [
            f"{names[-1] if names else 'input'}-{place}" for place in range(2, len(values) + 2 - len(names))
        ]
        inputs = dict(zip(names, values, strict=False))
        run = self._manager.get_child(f"step:{step.kind}").on_chain_start(None, inputs, name=name)
        # Runnables that the step calls become its children; questions to the system call none, and
        # several of them are open at once in one thread.
        config = None if step.asks is not None else patch_config(None, callbacks=run.get_child())
        token = None if config is None else var_child_runnable_config.set(config)
        try:
            yield run.on_chain_end
        except BaseException as error:  # told to the callbacks, and raised again
            run.on_chain_error(error)
            raise
        finally:
            if token is not None:
                var_child_runnable_config.reset(token)


def observer_of(manager: CallbackManagerForChainRun) -> StepObserver | None:
    """None where nobody would hear of steps."""
    return StepObserver(manager) if manager.inheritable_handlers else None
