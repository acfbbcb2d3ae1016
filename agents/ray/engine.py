"""The engine on Ray: starts an actor for the router and for every decoder, and talks to them.

    system = sl.load("tiny", engine="ray")
    system = sl.load("tiny", engine=sl.RayEngine(address="auto", placement=sl.Placement.read("place.yaml")))

Nothing else changes: replies, artifacts and failures are those of the engine of one process.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from superlink.agents.model_folder import check_outline, read_outline
from superlink.agents.ray.courier import Courier
from superlink.agents.ray.host import Host
from superlink.agents.ray.placement import ActorPlacement, Placement
from superlink.agents.ray.replicas import Replicas
from superlink.agents.ray.router_host import RouterHost
from superlink.agents.ray.runtime import Runtime
from superlink.agents.ray.transport import PictureStore
from superlink.agents.ray.writers import Writers
from superlink.agents.status import SystemStatus
from superlink.decoders.contract import Call, DecoderConfig, Outcome
from superlink.router.errors import ModelError, SuperlinkError
from superlink.router.requests import Event, Request

STATUS_SECONDS = 2.0  # that an actor may take to tell how it is
_SPARE_CALLS = 64  # beyond those that may wait: questions about status, and clients besides this one


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Where a model is to run; `load` starts it.

    Without an address it joins the cluster that this process is connected to, else starts a runtime on
    this machine. Every node must find the model folder under the same path.
    """

    address: str | None = None  # "auto", "10.0.0.1:6379"
    placement: Placement = field(default_factory=Placement)

    def start(self, folder: Path, *, decoders: Sequence[type[DecoderConfig]] = ()) -> Deployment:
        """Start the actors of a model.

        Raises:
            ModelError: the folder does not fit together, or an actor does not start.
            InputError: no such cluster, or a placement for decoders that there are not.
        """
        return Deployment(self, folder, decoders)


class Deployment:
    """A model on Ray: the `Engine` of a system. It owns its actors, which end with it."""

    def __init__(self, engine: RayEngine, folder: Path, decoders: Sequence[type[DecoderConfig]] = ()) -> None:
        folder = folder.absolute()
        router, tokenizer, configs = read_outline(folder, decoders=decoders)
        check_outline(router, tokenizer, configs)
        names = [config.name for config in configs]
        place = engine.placement
        place.check(names)
        self.decoders: tuple[DecoderConfig, ...] = configs
        self._runtime = Runtime(engine.address, num_cpus=place.num_cpus(names))
        self._courier = Courier()
        self._store = PictureStore(ray.put)
        self._actors: dict[str, list[Any]] = {}
        try:
            self._start("router", RouterHost, place.router, (folder, place.router))
            for config in configs:
                own = place.of(config.name)
                self._start(config.name, Host, own, (folder, config, router.width, own))
            self._wait(place)
        except (SuperlinkError, RayError, ValueError):
            self._end()
            raise
        self._writers = Writers(self._actors["router"], place.router, store=self._store)
        self._replicas = {
            name: Replicas(name, self._actors[name], place.of(name), store=self._store, courier=self._courier)
            for name in names
        }

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        return self._writers.stream(requests)

    def submit(self, decoder: str, calls: Sequence[Call]) -> Future[list[Outcome]]:
        if decoder not in self._replicas:
            there = ", ".join(sorted(self._replicas)) or "none"
            raise ModelError(f"no decoder {decoder!r}; there are {there}")
        return self._replicas[decoder].submit(calls)

    def status(self) -> SystemStatus:
        workers = [*self._writers.status(STATUS_SECONDS)]
        for replicas in self._replicas.values():
            workers += replicas.status(STATUS_SECONDS)
        return SystemStatus(workers=tuple(workers))

    def close(self) -> None:
        try:
            self._writers.close()
            for replicas in self._replicas.values():
                replicas.close()
        finally:
            self._end()

    def _start(self, name: str, kind: type[Any], place: ActorPlacement, arguments: tuple[Any, ...]) -> None:
        options: dict[str, Any] = {
            "num_cpus": place.num_cpus,
            "num_gpus": place.num_gpus,
            "resources": dict(place.resources) or None,
            "max_restarts": place.max_restarts,
            "max_task_retries": 0,  # who retries what is decided by the client, which knows the time left
            "max_concurrency": place.queue + _SPARE_CALLS,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(place.threads)}},
        }
        if place.spread:
            options["scheduling_strategy"] = "SPREAD"
        actor = ray.remote(kind).options(**options)
        self._actors[name] = [actor.remote(*arguments) for _ in range(place.replicas)]

    def _wait(self, place: Placement) -> None:
        """Until every actor is up.

        Raises:
            ModelError: one is not, in its time.
        """
        start = time.monotonic()
        for name, actors in self._actors.items():
            own = place.router if name == "router" else place.of(name)
            for number, actor in enumerate(actors):
                left = max(start + own.start_timeout - time.monotonic(), 0.0)
                try:
                    # Without retries an actor that Ray starts anew would count as one that cannot.
                    ray.get(actor.ready.options(max_task_retries=-1).remote(), timeout=left)
                except GetTimeoutError as error:
                    raise ModelError(_late(name, number, own)) from error
                except (RayActorError, RayTaskError) as error:
                    raise ModelError(f"the actor of {name!r} did not start: {_reason(error)}") from error

    def _end(self) -> None:
        """Nothing is left to do the second time."""
        actors, self._actors = self._actors, {}
        self._courier.close()
        self._store.clear()
        for own in actors.values():
            for actor in own:
                ray.kill(actor)
        self._runtime.close()


def _late(name: str, number: int, place: ActorPlacement) -> str:
    wanted = {"CPU": place.num_cpus, "GPU": place.num_gpus, **place.resources}
    free = ray.available_resources()
    needs = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
    there = ", ".join(f"{free.get(kind, 0.0):g} {kind}" for kind, amount in wanted.items() if amount)
    return (
        f"replica {number} of {name!r} did not start within {place.start_timeout:g} s; "
        f"it needs {needs or 'nothing'} and the cluster has {there or 'that'} free"
    )


def _reason(error: RayError) -> str:
    """The last line of what happened in an actor: Ray sends its whole traceback."""
    if isinstance(error, RayTaskError) and error.cause is not None:
        return " ".join(str(error.cause).split())
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
