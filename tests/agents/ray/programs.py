"""Programs that tests run as processes of their own: python -m tests.agents.ray.programs NAME ...

joins ADDRESS FOLDER: joins a cluster, asks, and then waits to be killed
loses FOLDER: two nodes on this machine, one of which is lost
hangs: a forward pass that never ends
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from superlink.agents.ray.host import watch
from superlink.agents.worker import DecoderWorker
from tests.agents.ray.fakes import SleeperConfig, sleepers
from tests.agents.ray.test_faults import DET, make_call, system_of


def hangs() -> None:
    decoder = sleepers((DET,))[0].build(32)
    worker = DecoderWorker(decoder)
    watch(worker, 1.0)
    worker.submit([make_call(seconds=1000.0)])
    time.sleep(60)


def joins(address: str, folder: str) -> None:
    from superlink.agents.ray.engine import RayEngine
    from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement

    place = Placement(
        router=RouterPlacement(num_cpus=1, start_timeout=280.0),
        decoder=DecoderPlacement(num_cpus=1, start_timeout=280.0),
    )
    engine = RayEngine(address=address, placement=place).start(Path(folder), decoders=[SleeperConfig])
    turn = system_of(engine).ask("Find.")
    sys.stdout.write(f"{len(turn.artifacts)} {turn.text}\n")
    sys.stdout.flush()
    engine.submit("quick", [make_call(seconds=1000.0)])
    time.sleep(1000)


def loses(folder: str) -> None:
    from ray.cluster_utils import Cluster

    from superlink.agents.ray.engine import RayEngine
    from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    far = cluster.add_node(num_cpus=2, resources={"far": 1})
    place = Placement(
        router=RouterPlacement(num_cpus=0.1, start_timeout=280.0),
        decoder=DecoderPlacement(num_cpus=0.1, start_timeout=280.0),
        decoders={
            "slow": DecoderPlacement(
                num_cpus=0.1, resources={"far": 0.1}, timeout=20.0, max_restarts=-1, start_timeout=280.0
            )
        },
    )
    engine = RayEngine(address=cluster.address, placement=place).start(Path(folder), decoders=[SleeperConfig])
    session = system_of(engine).session()
    tell(session.ask("Find."))
    cluster.remove_node(far, allow_graceful=False)
    until(lambda: not engine.status().of("slow")[0].up)  # its process notices a little later
    start = time.monotonic()
    tell(session.ask("Find."))
    sys.stdout.write(f"{time.monotonic() - start:.0f}\n")
    cluster.add_node(num_cpus=2, resources={"far": 1})
    until(lambda: engine.status().of("slow")[0].up)
    tell(session.ask("Find."))
    engine.close()
    cluster.shutdown()


def until(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + 200
    while not reached() and time.monotonic() < limit:
        time.sleep(1)


def tell(turn: object) -> None:
    failures = [(one.call_id, one.kind) for one in turn.failures]  # type: ignore[attr-defined]
    sys.stdout.write(f"{turn.text}|{len(turn.artifacts)}|{failures}\n")  # type: ignore[attr-defined]
    sys.stdout.flush()


if __name__ == "__main__":
    {"hangs": hangs, "joins": joins, "loses": loses}[sys.argv[1]](*sys.argv[2:])
