"""One Ray runtime for all tests, and the models that they run on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from superlink.agents.model_folder import Model, save_model
from superlink.agents.ray.engine import Deployment, RayEngine
from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement
from superlink.agents.ray.runtime import Runtime
from superlink.router.model import Router
from superlink.router.tokens import RoutingToken
from tests.agents.ray.fakes import SleeperConfig, sleepers
from tests.agents.tiny_model import router_config, tokenizer

DET = RoutingToken(text="[DET]", decoder="quick", table="quick")
SEG = RoutingToken(text="[SEG]", decoder="slow", table="slow")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads here as in an actor: the order of a sum, and so its rounding, depends on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The runtime of this session, started with an empty folder as home; gives that folder."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        held = Runtime(num_cpus=16)
    yield home
    held.close()


@pytest.fixture(scope="session")
def sleeper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose decoders "quick" ([DET]) and "slow" ([SEG]) sleep as their calls say."""
    torch.manual_seed(0)
    router = Router(replace(router_config(tokenizer()), tokens=(DET, SEG))).eval()
    decoders = tuple(config.build(router.config.width).eval() for config in sleepers((DET, SEG)))
    folder = tmp_path_factory.mktemp("sleepers")
    save_model(folder, Model(name="sleepers", router=router, tokenizer=tokenizer(), decoders=decoders))
    return folder


@pytest.fixture(scope="session")
def placement() -> Placement:
    """Enough restarts for all faults that tests make."""
    decoder = DecoderPlacement(num_cpus=0.1, max_restarts=-1, timeout=150.0, queue=64, start_timeout=280.0)
    router = RouterPlacement(num_cpus=0.1, max_restarts=-1, timeout=150.0, start_timeout=280.0)
    return Placement(router=router, decoder=decoder)


@pytest.fixture(scope="session")
def sleeping(runtime: Path, sleeper_folder: Path, placement: Placement) -> Iterator[Deployment]:
    engine = RayEngine(placement=placement).start(sleeper_folder, decoders=[SleeperConfig])
    yield engine
    engine.close()


@pytest.fixture
def rested(sleeping: Deployment) -> Deployment:
    """`sleeping`, once every actor is up and has nothing to do."""
    wait_until(
        lambda: all(one.up and not one.waiting and not one.running for one in sleeping.status().workers)
    )
    return sleeping


def is_gone(actor: Any) -> bool:
    """Whether an actor has ended; for a moment one that was killed still answers."""
    import ray  # not at the top: `runtime` says first what ray is to read when it is imported
    from ray.exceptions import RayActorError

    try:
        ray.get(actor.ready.remote(), timeout=100)
    except RayActorError:
        return True
    return False


def wait_until(reached: Callable[[], Any], seconds: float = 200.0) -> None:
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit, "not reached in time"
        time.sleep(0.2)
