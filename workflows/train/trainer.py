"""Starts the workers of a run: on Ray Train, or as plain processes of this machine.

Both run the same loop. Ctrl-C or SIGTERM asks the workers, through a file in the run's folder, to save
after the current step; the same command then goes on from there. After a hard kill it goes on from the last
checkpoint.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from superlink.router.errors import InputError, SuperlinkError, TrainError
from superlink.workflows.train.config import TrainConfig

STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended."""

    folder: Path
    steps: int  # done
    finished: bool  # False = asked to stop; the same command goes on

    @property
    def model(self) -> Path:
        """Where the trained model is, once finished."""
        return self.folder / "model"


def run(config: TrainConfig, folder: str | Path, *, resume: bool = True) -> RunResult:
    """Train on Ray: on the cluster that this process is connected to, else on a runtime of its own.

    Args:
        folder: of the run, reachable by every worker; everything is written there.
        resume: go on from the newest checkpoint in `folder`; False = start anew and drop what is there.

    Raises:
        SuperlinkError: what went wrong in a worker.
    """
    return _launch(_ray_workers, config, Path(folder), resume=resume)


def run_local(config: TrainConfig, folder: str | Path, *, resume: bool = True) -> RunResult:
    """The same run without Ray: in this process, or as processes on this machine for more workers."""
    from superlink.router.devices import check_device

    if config.use_gpu:
        check_device(f"cuda:{config.workers - 1}")  # one for each worker
    start = _one_worker if config.workers == 1 else _spawned_workers
    return _launch(start, config, Path(folder), resume=resume)


Start = Callable[[TrainConfig, Path], None]


def _launch(start: Start, config: TrainConfig, folder: Path, *, resume: bool) -> RunResult:
    from superlink.workflows.train.checkpoint import checkpoints
    from superlink.workflows.train.loop import CHECKPOINTS, MODEL

    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file; name a folder for the run")
    if not resume:
        _keep_the_start(config, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        for name in (CHECKPOINTS, MODEL, "tensorboard", "ray"):
            shutil.rmtree(folder / name, ignore_errors=True)
    (folder / STOP).unlink(missing_ok=True)
    with _stop_on_signals(folder / STOP):
        start(config, folder)
    (folder / STOP).unlink(missing_ok=True)
    done = checkpoints(folder / CHECKPOINTS)
    steps = done[-1][0] if done else 0
    return RunResult(folder=folder, steps=steps, finished=steps == config.steps)


def _keep_the_start(config: TrainConfig, folder: Path) -> None:
    """Raises InputError where dropping an earlier run would drop what this one begins with."""
    begins = {
        "the model to start from": getattr(config.system, "folder", None),
        "the weights to begin with": config.weights,
    }
    for what, path in begins.items():
        if isinstance(path, str | Path) and Path(path).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{what} ({str(path)!r}) would be dropped with the earlier run in {str(folder)!r}; give the "
                f"new run another folder (--out)"
            )


def work(config: TrainConfig, folder: Path, device: str) -> None:
    """What every worker does, once its process group exists."""
    import torch

    from superlink.workflows.train.collective import current
    from superlink.workflows.train.loop import TrainLoop

    if device == "cpu":
        torch.set_num_threads(config.threads)
    stop_file = folder / STOP
    loop = TrainLoop(config, folder, collective=current(), device=torch.device(device))
    loop.run(lambda: stop_file.exists() or _is_orphan())


def _is_orphan() -> bool:
    """Whether the process that started this one is gone, as after its SIGKILL; workers then save and end."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _one_worker(config: TrainConfig, folder: Path) -> None:
    work(config, folder, "cuda" if config.use_gpu else "cpu")


def _spawned_workers(config: TrainConfig, folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as meeting:
        children: dict[Connection, Any] = {}
        for rank in range(config.workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_spawned, args=(config, folder, rank, f"file://{meeting}/store", sender), daemon=False
            )
            process.start()
            sender.close()
            children[receiver] = process
        try:
            _watch(children)
        finally:
            for process in children.values():
                process.kill()  # they are deaf to anything gentler, and have saved what is to be saved
                process.join()


def _watch(children: dict[Connection, Any]) -> None:
    """Wait for all workers; raise what the first one raised, since the others only wait for it then."""
    running = list(children)
    while running:
        for ready in wait(running):
            assert isinstance(ready, Connection)
            running.remove(ready)
            process = children[ready]
            try:
                error = ready.recv()
            except EOFError:
                process.join()
                raise TrainError(f"a worker ended with exit code {process.exitcode} and no message") from None
            if error is not None:
                raise error


def _spawned(config: TrainConfig, folder: Path, rank: int, meeting: str, sender: Connection) -> None:
    import torch

    for heard in (signal.SIGINT, signal.SIGTERM):
        signal.signal(heard, signal.SIG_IGN)  # the parent hears it, too, and writes the stop file
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    backend = "nccl" if config.use_gpu else "gloo"
    torch.distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=config.workers)
    error: SuperlinkError | None = None
    try:
        work(config, folder, f"cuda:{rank}" if config.use_gpu else "cpu")
    except SuperlinkError as raised:
        error = raised
    sender.send(error)
    if error is None:
        torch.distributed.destroy_process_group()


def _ray_workers(config: TrainConfig, folder: Path) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray.cloudpickle
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.exceptions import WorkerGroupError

    # Any: Ray's hints name the RunConfig of an older interface.
    run_config: Any = RunConfig(
        name="ray",
        storage_path=str(folder),
        failure_config=FailureConfig(max_failures=0),
        logging_config=LoggingConfig(log_level="ERROR"),
    )
    with _ray_runtime(config):
        trainer = TorchTrainer(
            _ray_worker,
            # Bytes: Ray's controller need not know the modules that a user's configuration comes from.
            train_loop_config={"run": ray.cloudpickle.dumps((config, folder))},
            torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=config.use_gpu),
            run_config=run_config,
        )
        try:
            # In another thread Ray leaves Ctrl-C to us: workers save before they end.
            _in_thread(trainer.fit)
        except WorkerGroupError as error:
            known = [e for e in error.worker_failures.values() if isinstance(e, SuperlinkError)]
            if known:
                raise known[0] from error
            raise


@contextmanager
def _ray_runtime(config: TrainConfig) -> Iterator[None]:
    """The runtime that this process is connected to, else one of this machine until the block ends."""
    import ray

    if ray.is_initialized():
        yield
        return
    own_token = not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if own_token:
        # Ray guards its ports with a token, and would keep one in the user's home.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        ray.init(
            num_cpus=max(os.cpu_count() or 1, config.workers),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(config.threads)}},
        )
        yield
    finally:
        ray.shutdown()
        if own_token:
            del os.environ["RAY_AUTH_TOKEN"]


def _ray_worker(arguments: dict[str, Any]) -> None:
    import ray.cloudpickle
    import ray.train.torch

    config, folder = ray.cloudpickle.loads(arguments["run"])
    work(config, folder, str(ray.train.torch.get_device()))


def _in_thread(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        future: Future[object] = pool.submit(call)
        future.result()


@contextmanager
def _stop_on_signals(stop_file: Path) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM writes the stop file, a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        stop_file.touch()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
