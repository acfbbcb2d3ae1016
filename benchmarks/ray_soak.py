"""Asks from many sessions while actors are killed at random: nothing may hang, get lost or be doubled.

    python benchmarks/ray_soak.py [--asks 1000] [--sessions 32] [--every 5]

Prints one JSON object: how every ask ended, how long they took, and the memory of this process over time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # workers import the fakes from `tests`

import ray
from ray.exceptions import RayError

from benchmarks.ray_hops import model_folder
from benchmarks.report import surroundings
from superlink.agents.ray.engine import Deployment, RayEngine
from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement
from superlink.agents.status import quantile
from superlink.agents.system import System
from superlink.router.errors import BusyError
from superlink.router.requests import GenerateOptions
from tests.agents.ray.fakes import SleeperConfig
from tests.agents.tiny_model import reply_ids, scene

REPLY = "Here: <det>red circle</det>[DET], <det>star</det>[SEG]."
BUDGET = 120.0  # seconds of one ask
ROUNDS = 10  # of one session, then a new one begins


def kill_at_random(engine: Deployment, every: float, over: threading.Event, killed: Counter[str]) -> None:
    rng = random.Random(0)
    while not over.wait(every):
        name = rng.choice(sorted(engine._actors))
        try:
            pid = ray.get(rng.choice(engine._actors[name]).ready.remote(), timeout=every)
        except RayError:  # it is dead already
            continue
        os.kill(pid, 9)
        killed[name] += 1


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def ask_on(system: System, number: int, count: int, seconds: list[float]) -> Counter[str]:
    """The asks of one caller, and how they ended; every one ends once, as the counts add up."""
    ends: Counter[str] = Counter()
    session = system.session()
    for place in range(count):
        if place % ROUNDS == 0:
            session = system.session()
        start = time.monotonic()
        try:
            turn = session.ask("Find.", image=scene(seed=number), seed=place, deadline=BUDGET)
        except BusyError:
            ends["busy"] += 1
            time.sleep(0.5)
            continue
        finally:
            seconds.append(time.monotonic() - start)
        calls = [artifact.origin.decoder for artifact in turn.artifacts]
        calls += [failure.call_id.rpartition(".")[0] for failure in turn.failures if "." in failure.call_id]
        ends["doubled"] += len(calls) - len(set(calls))
        whole = not turn.failures and len(turn.artifacts) == 2
        ends["whole" if whole else "+".join(sorted(one.kind for one in turn.failures)) or "incomplete"] += 1
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asks", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two kills")
    given = parser.parse_args()
    decoder = DecoderPlacement(num_cpus=0.1, max_restarts=-1, timeout=BUDGET)
    router = RouterPlacement(num_cpus=0.1, max_restarts=-1, timeout=BUDGET)
    ends: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    seconds: list[float] = []
    memory: list[float] = []
    over = threading.Event()
    with tempfile.TemporaryDirectory() as temporary:
        folder = model_folder(Path(temporary))
        placement = Placement(router=router, decoder=decoder)
        engine = RayEngine(placement=placement).start(folder, decoders=[SleeperConfig])
        system = System(engine, options=GenerateOptions(forced=reply_ids(REPLY)))
        killer = threading.Thread(target=kill_at_random, args=(engine, given.every, over, killed))
        killer.start()
        share, rest = divmod(given.asks, given.sessions)
        with ThreadPoolExecutor(given.sessions) as threads:
            asked = [
                threads.submit(ask_on, system, number, share + (number < rest), seconds)
                for number in range(given.sessions)
            ]
            while not all(one.done() for one in asked):
                memory.append(resident_megabytes())
                time.sleep(2)
            for one in asked:
                ends += one.result()
        over.set()
        killer.join()
        status = system.status().to_json()
        system.close()
    doubled = ends.pop("doubled", 0)
    ordered = sorted(seconds)
    result: dict[str, Any] = {
        "asks": given.asks,
        "ended": sum(ends.values()),
        "doubled": doubled,
        "ends": dict(ends),
        "killed": dict(killed),
        "seconds": {"p50": quantile(ordered, 0.5), "p95": quantile(ordered, 0.95), "max": ordered[-1]},
        "memory_mb": memory[:: max(len(memory) // 20, 1)],
        "status": status,
    }
    print(json.dumps(result | surroundings() | {"ray": ray.__version__}, indent=2))


if __name__ == "__main__":
    main()
