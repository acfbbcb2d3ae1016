"""Clusters that are joined and left, clients and nodes that vanish, processes that hang."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import ray

from superlink.agents.ray.engine import RayEngine
from superlink.agents.ray.runtime import Runtime
from superlink.agents.system import load
from superlink.router.errors import InputError, ModelError
from tests.agents.ray.conftest import wait_until
from tests.agents.ray.fakes import SleeperConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PROGRAM = [sys.executable, "-m", "tests.agents.ray.programs"]


def _own(lines: Iterable[str]) -> Iterator[str]:
    """What a program printed itself: Ray tells on stdout, too, that a node or an actor is gone."""
    return (line.strip() for line in lines if re.match(r"(\d+ )?Here: |\d+$", line))


def _settled_cpus() -> float:
    """What is free once actors that were ended earlier have given back theirs."""
    seen = [-1.0]

    def settled() -> bool:
        time.sleep(1.0)
        seen.append(ray.available_resources()["CPU"])
        return seen[-1] == seen[-2]

    wait_until(settled, 60)
    return seen[-1]


def test_a_forward_pass_that_hangs_ends_its_process() -> None:
    done = subprocess.run([*PROGRAM, "hangs"], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 1
    assert "a forward pass took longer than 1 s" in done.stderr


def test_nothing_is_written_to_the_home(runtime: Path) -> None:
    assert list(runtime.iterdir()) == []


def test_another_cluster_than_the_connected_one_is_refused(runtime: Path) -> None:
    with pytest.raises(InputError, match=r"connected to Ray at .* already, which is not '192\.0\.2\.1:6379'"):
        Runtime("192.0.2.1:6379")


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    join = f"from superlink.agents.ray.runtime import Runtime; Runtime('127.0.0.1:{port}')"
    done = subprocess.run(
        [sys.executable, "-c", join], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"InputError: no Ray cluster answers at '127.0.0.1:{port}'" in done.stderr


def test_an_unknown_engine_is_named(sleeper_folder: Path) -> None:
    with pytest.raises(InputError, match="no engine 'cloud'; use 'local', 'ray' or a RayEngine"):
        load(sleeper_folder, engine="cloud", decoders=[SleeperConfig])


def test_a_model_that_does_not_load_says_why(runtime: Path, sleeper_folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(sleeper_folder, broken)
    (broken / "decoders" / "slow" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"'slow' did not start: .*model\.safetensors"):
        RayEngine().start(broken, decoders=[SleeperConfig])


def test_a_client_that_is_killed_leaves_nothing_behind(runtime: Path, sleeper_folder: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    before = _settled_cpus()
    command = [*PROGRAM, "joins", address, str(sleeper_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert next(_own(client.stdout)) == "2 Here: red circle, star."
            assert ray.available_resources()["CPU"] <= before - 3
        finally:
            client.kill()
    wait_until(lambda: ray.available_resources()["CPU"] == before, 60)


def test_a_lost_node_costs_its_decoder_and_nothing_else(sleeper_folder: Path) -> None:
    command = [*PROGRAM, "loses", str(sleeper_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    whole, lost, seconds, again = _own(done.stdout.splitlines())
    assert whole == again == "Here: red circle, star.|2|[]"
    assert lost == "Here: red circle, star.|1|[('slow.0', 'lost')]"
    assert int(seconds) < 60
