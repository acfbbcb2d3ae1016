"""A workflow: built by calling steps on handles, checked before it runs, and a LangChain `Runnable`.

wf = Workflow("stars")
photo = wf.input("photo", Image)
wf.output("stars", steps.detect("star")(photo))
wf.invoke("scene.png")["stars"].xyxy
"""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel
from typing_extensions import Self

from superlink.router.errors import InputError
from superlink.workflows.graph.building import GraphBuilder
from superlink.workflows.graph.context import Cache, Context
from superlink.workflows.graph.definition import Graph
from superlink.workflows.graph.describing import model_of, schema_of
from superlink.workflows.graph.policies import checked_count, checked_seed
from superlink.workflows.graph.running import Errors, as_completed, invoked, streamed, streamed_async
from superlink.workflows.graph.systems import system_for

if TYPE_CHECKING:
    from superlink.agents.system import System
    from superlink.workflows.graph.systems import SystemLike

Config = RunnableConfig | list[RunnableConfig] | None


class Workflow(GraphBuilder, Runnable[Any, dict[str, Any]]):
    """A typed graph of steps. Built once, then safe to run from many threads.

    Args:
        name: of the workflow, in messages, files and traces.
        description: for people.
        system: what steps ask; a `System`, or the name or folder of a model, loaded when first needed.
        cache: values of earlier runs; see `superlink.workflows.graph.cache`.
        seed: of everything random.
        asks: batches of questions that the system is asked at the same time; more than one pays where
            the engine runs them on several machines.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        system: SystemLike = "tiny",
        cache: Cache | None = None,
        seed: int = 0,
        asks: int = 1,
    ) -> None:
        if not isinstance(name, str):
            raise InputError(f"the name of a workflow is words, got {name!r}")
        super().__init__(Graph(name, description=description))
        self.name: str = name
        self._system = system
        self._cache = cache
        self._seed = checked_seed(seed)
        self._asks = checked_count(asks, "asks")

    def using(
        self,
        *,
        system: SystemLike | None = None,
        cache: Cache | None = None,
        seed: int | None = None,
        asks: int | None = None,
    ) -> Self:
        """The same workflow with another system, cache or seed."""
        other = copy.copy(self)
        other._system = self._system if system is None else system
        other._cache = self._cache if cache is None else cache
        other._seed = self._seeded(seed)
        other._asks = self._asks if asks is None else checked_count(asks, "asks")
        return other

    def _context(self, config: RunnableConfig, threads: int | None) -> Context:
        asked = config.get("configurable", {}).get("system", self._system)

        def system() -> System:
            return system_for(asked)

        most = config.get("max_concurrency") if threads is None else threads
        if most is not None:
            checked_count(most, "max_concurrency")
        return Context(system, self._cache, asks=self._asks, threads=most or 16)

    def invoke(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        errors: Errors = "raise",
        seed: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Outputs by name, for one input.

        Args:
            input: values by names of inputs; a bare value will do where there is one input.
            config: LangChain's; `configurable: {"system": ...}` asks another system.
            errors: "return" gives a `Result` with a `StepError` in place of what could not be made, or the
                `StepError` alone where there is no output at all.
            seed: in place of the workflow's.
            **kwargs: nothing; LangChain passes on what was bound.

        Raises:
            WorkflowError: the definition is wrong.
            StepError: a step failed.
        """
        plan = self._plan()

        def run(value: Any, run_manager: Any, config: RunnableConfig) -> Any:
            return invoked(plan, self._context(config, None), value, run_manager, self._seeded(seed), errors)

        return self._call_with_config(run, input, config)

    async def ainvoke(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        errors: Errors = "raise",
        seed: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As `invoke`, in a thread."""
        plan = self._plan()

        async def run(value: Any, run_manager: Any, config: RunnableConfig) -> Any:
            context, manager = self._context(config, None), run_manager.get_sync()
            return await run_in_executor(
                None, invoked, plan, context, value, manager, self._seeded(seed), errors
            )

        return await self._acall_with_config(run, input, config)

    def batch_as_completed(  # type: ignore[override]  # takes any iterable
        self,
        inputs: Iterable[Any],
        config: Config = None,
        *,
        return_exceptions: bool = False,
        errors: Errors = "raise",
        max_concurrency: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Index and result of every input, as they finish. `inputs` are read only as there is room."""
        mode: Errors = "exceptions" if return_exceptions else errors
        found = self.with_inputs_as_completed(
            inputs, config, errors=mode, max_concurrency=max_concurrency, seed=seed
        )
        with closing(found):
            for index, outcome, _ in found:
                yield index, outcome

    def with_inputs_as_completed(
        self,
        inputs: Iterable[Any],
        config: Config = None,
        *,
        errors: Errors = "return",
        max_concurrency: int | None = None,
        seed: int | None = None,
    ) -> Generator[tuple[int, Any, dict[str, Any]], None, None]:
        """As `batch_as_completed`, with the inputs of each result as they were read, pictures among them."""
        first = (config[0] if config else None) if isinstance(config, list) else config
        most = (first or {}).get("max_concurrency") if max_concurrency is None else max_concurrency
        yield from as_completed(
            self._plan(),
            self._context(first or {}, most),
            inputs,
            config,
            name=self.get_name(),
            errors=errors,
            window=most or 32,
            seed=self._seeded(seed),
        )

    def batch(  # type: ignore[override]  # says what the base calls **kwargs
        self,
        inputs: Iterable[Any],
        config: Config = None,
        *,
        return_exceptions: bool = False,
        errors: Errors = "raise",
        max_concurrency: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """A result for every input, in order; each goes through the steps at its own pace.

        Args:
            inputs: as `invoke` takes them.
            config: one for all, or one for each.
            return_exceptions: LangChain's: an input of which any step failed gives a `StepError`.
            errors: "return": such an input gives what could be made, as in `invoke`.
            max_concurrency: inputs that are on their way, and steps that run, at the same time.
            seed: in place of the workflow's; the same for every input.
            **kwargs: nothing.

        Raises:
            StepError: a step failed and errors are raised; the rest is stopped.
        """
        found = dict(
            self.batch_as_completed(
                inputs,
                config,
                return_exceptions=return_exceptions,
                errors=errors,
                max_concurrency=max_concurrency,
                seed=seed,
            )
        )
        return [found[index] for index in sorted(found)]

    async def abatch(self, inputs: Iterable[Any], config: Config = None, **kwargs: Any) -> list[Any]:
        """As `batch`, in a thread."""
        return await run_in_executor(None, self.batch, inputs, config, **kwargs)

    def stream(  # type: ignore[override]  # says what the base calls **kwargs
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        errors: Errors = "raise",
        seed: int | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        """Outputs as they are made, each in a dict of its own; they add up to what `invoke` gives."""
        plan = self._plan()

        def run(values: Iterator[Any], run_manager: Any, config: RunnableConfig) -> Iterator[Any]:
            context = self._context(config, None)
            for value in values:
                yield from streamed(plan, context, value, run_manager, self._seeded(seed), errors)

        yield from self._transform_stream_with_config(iter([input]), run, config)

    async def astream(  # type: ignore[override]  # says what the base calls **kwargs
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        errors: Errors = "raise",
        seed: int | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """As `stream`, from a thread."""
        plan = self._plan()

        async def run(
            values: AsyncIterator[Any], run_manager: Any, config: RunnableConfig
        ) -> AsyncIterator[Any]:
            context, manager = self._context(config, None), run_manager.get_sync()
            async for value in values:
                chunks = streamed(plan, context, value, manager, self._seeded(seed), errors)
                async for chunk in streamed_async(chunks, context):
                    yield chunk

        async def one() -> AsyncIterator[Any]:
            yield input

        async for chunk in self._atransform_stream_with_config(one(), run, config):
            yield chunk

    @property
    def seed(self) -> int:
        """Of everything random in a run that names no other."""
        return self._seed

    def _seeded(self, seed: int | None) -> int:
        return self._seed if seed is None else checked_seed(seed)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return model_of(self.graph, "input")

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return model_of(self.graph, "output")

    def get_input_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        return schema_of(self.graph, "input")

    def get_output_jsonschema(self, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        return schema_of(self.graph, "output")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, allow: Sequence[str] = (), **options: Any) -> Self:
        """A workflow from a file.

        Args:
            path: YAML or JSON.
            allow: modules whose functions the file may use; nothing else of it is code.
            **options: `system`, `cache`, `seed`, `asks` of the workflow.

        Raises:
            WorkflowError: not such a file; names the place.
            InputError: it cannot be read.
        """
        from superlink.workflows.graph.loading import read

        return cls._around(read(path, allow=allow), options)

    @classmethod
    def from_data(cls, data: Mapping[str, Any], *, allow: Sequence[str] = (), **options: Any) -> Self:
        """As `load`, from what `to_data` gave."""
        from superlink.workflows.graph.loading import from_data

        return cls._around(from_data(data, allow=allow), options)

    @classmethod
    def _around(cls, graph: Graph, options: Mapping[str, Any]) -> Self:
        workflow = cls(graph.name, **options)
        workflow.graph = graph
        workflow.check()
        return workflow
