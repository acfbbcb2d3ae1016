"""A folder of pictures on a Ray cluster: Ray Data maps batches of them over actors that hold the workflow.

Every actor has a model of its own. Outcomes come back to the process that began the run, which writes them,
so records, resuming and files are those of a local run. Every node must find pictures, model folder and
modules under the same paths.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.cloudpickle
import ray.data
from ray.exceptions import RayError

from superlink.agents.ray.runtime import Runtime
from superlink.router.errors import LostError
from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.folders import Here
from superlink.workflows.graph.image import Image
from superlink.workflows.graph.results import Result
from superlink.workflows.graph.workflow import Workflow

BATCH = 8  # pictures of one task: what is lost and done again when an actor dies


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRay:
    """On the cluster at `address`, or on a runtime of this machine; a `Place` for `run_folder`."""

    model: Path  # folder of the model that steps ask
    allow: tuple[str, ...] = ()  # modules whose functions the workflow uses
    address: str | None = None
    actors: int | None = None  # None: one for every CPU of the cluster
    pictures: int | None = 1  # on their way at the same time in one actor

    def finished(
        self, workflow: Workflow, pictures: Mapping[str, Path]
    ) -> Generator[tuple[str, Result | StepError, Image | None], None, None]:
        """See `Place`.

        Raises:
            WorkflowError: a step that no file can hold, such as a lambda.
            InputError: no cluster at the address.
            LostError: the cluster could not go on; what was finished stays.
        """
        settings = {
            "data": workflow.to_data(),
            "allow": self.allow,
            "model": str(self.model),
            "seed": workflow.seed,
            "pictures": self.pictures,
        }
        rows = [{"name": name, "path": str(path.resolve())} for name, path in pictures.items()]
        if not rows:
            return
        runtime = Runtime(self.address)
        try:
            blocks = -(-len(rows) // BATCH)
            actors = self.actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = context.print_on_execution_start = False
            logging.getLogger("ray.data").setLevel(logging.ERROR)  # whoever began the run tells how far it is
            mapped = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
                _Worker,
                fn_constructor_kwargs=settings,
                batch_size=BATCH,
                compute=ray.data.ActorPoolStrategy(size=min(actors, blocks)),
                num_cpus=1,
            )
            for row in mapped.iter_rows():
                yield ray.cloudpickle.loads(row["finished"])
        except RayError as error:
            reason = " ".join(str(error).split())
            raise LostError(f"the pictures that are left were given up by the cluster: {reason}") from error
        finally:
            runtime.close()


class _Worker:
    """One actor."""

    def __init__(
        self, *, data: Mapping[str, Any], allow: tuple[str, ...], model: str, seed: int, pictures: int | None
    ) -> None:
        self._workflow = Workflow.from_data(data, allow=allow, system=model, seed=seed)
        self._here = Here(max_concurrency=pictures)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        pictures = {
            str(name): Path(str(path)) for name, path in zip(batch["name"], batch["path"], strict=True)
        }
        done = self._here.finished(self._workflow, pictures)
        return {"finished": [ray.cloudpickle.dumps(one) for one in done]}
