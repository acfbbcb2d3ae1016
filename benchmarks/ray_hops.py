"""What Ray costs and brings: hops, batches over sessions, pictures, replicas. Prints one JSON object.

    python benchmarks/ray_hops.py [--calls 200] [--seconds 5] [--sessions 32]

Decoders are fakes that sleep: `t = 20 ms + 1 ms × n` for n calls, or not at all. Ratios come from one run;
absolute times depend on what else the machine does (`load`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # workers import the fakes from `tests`

import numpy as np
import ray
import torch

from benchmarks.report import surroundings
from superlink.agents.model_folder import Model, save_model
from superlink.agents.ray.engine import Deployment, RayEngine
from superlink.agents.ray.placement import DecoderPlacement, Placement
from superlink.agents.ray.transport import packed_calls
from superlink.agents.status import quantile
from superlink.agents.worker import answer
from superlink.decoders.artifacts import Text
from superlink.decoders.contract import Call, Failure, Outcome, Route
from superlink.router.links import SuperLink
from superlink.router.model import Router
from superlink.router.tokens import RoutingToken
from tests.agents.ray.fakes import SleeperConfig
from tests.agents.tiny_model import router_config, tokenizer

FIXED, EACH = 0.020, 0.001


def token(text: str, name: str) -> RoutingToken:
    return RoutingToken(text=text, decoder=name, table=name)


NONE, ONE, MANY = token("[DET]", "noop"), token("[GRD]", "single"), token("[SEG]", "batched")


def model_folder(folder: Path) -> Path:
    """A tiny router; decoders that do nothing, that take one call at a time, and that take many."""
    torch.manual_seed(0)
    tokens = (NONE, ONE, MANY)
    router = Router(replace(router_config(tokenizer()), tokens=tokens)).eval()
    configs = [
        SleeperConfig(name=one.decoder, routes=(Route(token=one, returns=Text),), fixed=fixed, each=each)
        for one, fixed, each in ((NONE, 0.0, 0.0), (ONE, FIXED, EACH), (MANY, FIXED, EACH))
    ]
    decoders = tuple(config.build(router.config.width).eval() for config in configs)
    save_model(folder, Model(name="bench", router=router, tokenizer=tokenizer(), decoders=decoders))
    return folder


def a_call(kind: RoutingToken, number: int = 0, *, image: Any = None, width: int = 32) -> Call:
    link = SuperLink(token=kind, embeddings=torch.randn(kind.num_links, width), phrase="thing", position=0)
    return Call(id=f"{kind.decoder}.{number}", links=(link,), image=image)


def times(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of every run, in order of length; a tenth as many go before and are not counted."""
    for _ in range(max(repeats // 10, 1)):
        run()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return sorted(found)


def milliseconds(seconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": round(quantile(seconds, 0.5) * 1e3, 3),
        "p95_ms": round(quantile(seconds, 0.95) * 1e3, 3),
    }


class Bare:
    """A plain actor around a decoder, given calls as objects: no queue, no batches, no deadlines."""

    def __init__(self, fixed: float) -> None:
        torch.set_num_threads(1)
        route = Route(token=NONE, returns=Text)
        self._decoder = SleeperConfig(name="bare", routes=(route,), fixed=fixed).build(32).eval()

    async def nothing(self, content: bytes) -> None:
        """What Ray alone takes."""

    async def answer(self, calls: Sequence[Call]) -> list[Outcome]:
        return answer(self._decoder, calls)


def hops(engine: Deployment, name: str, kind: RoutingToken, fixed: float, calls: int) -> dict[str, Any]:
    """The engine's way to a decoder against that through a plain actor with the same decoder."""
    actor: Any = ray.remote(num_cpus=0)(Bare)
    bare = actor.remote(fixed)
    call = a_call(kind)
    content = packed_calls([call], engine._store)[0]
    ways: dict[str, Callable[[], object]] = {
        "empty": lambda: ray.get(bare.nothing.remote(content)),
        "bare": lambda: ray.get(bare.answer.remote([call])),
        "engine": lambda: engine.submit(name, [call]).result(60),
    }
    # In turns, so that other load falls on all alike.
    rounds = [{way: times(run, calls // 5) for way, run in ways.items()} for _ in range(5)]
    over = {
        other: [quantile(one["engine"], 0.5) - quantile(one[other], 0.5) for one in rounds]
        for other in ("empty", "bare")
    }
    together = {way: sorted(seconds for one in rounds for seconds in one[way]) for way in ways}
    return {
        **{way: milliseconds(seconds) for way, seconds in together.items()},
        **{f"over_{other}_ms": round(statistics.median(each) * 1e3, 3) for other, each in over.items()},
    }


def sessions(engine: Deployment, name: str, kind: RoutingToken, count: int, seconds: float) -> dict[str, Any]:
    """`count` callers that each send the next call when the last one is answered."""
    over = threading.Event()

    def keep_asking(number: int) -> list[float]:
        own = []
        while not over.is_set():
            start = time.perf_counter()
            (outcome,) = engine.submit(name, [a_call(kind, number)]).result(120)
            if isinstance(outcome, Failure):
                raise RuntimeError(outcome.error)
            own.append(time.perf_counter() - start)
        return own

    with ThreadPoolExecutor(count) as threads:
        asked = [threads.submit(keep_asking, number) for number in range(count)]
        start = time.perf_counter()
        time.sleep(seconds)
        over.set()
        found = sorted(value for one in asked for value in one.result())
        whole = time.perf_counter() - start
    return {"sessions": count, "calls_per_s": round(len(found) / whole, 1), **milliseconds(found)}


def batching(engine: Deployment, count: int, seconds: float) -> dict[str, Any]:
    alone = sessions(engine, "batched", MANY, 1, seconds)
    together = sessions(engine, "batched", MANY, count, seconds)
    unbatched = sessions(engine, "single", ONE, count, seconds)
    return {
        "one_session": alone,
        "batched": together,
        "unbatched": unbatched,
        "speedup": round(together["calls_per_s"] / unbatched["calls_per_s"], 2),
    }


def payloads(engine: Deployment, calls: int) -> list[dict[str, Any]]:
    """Links of growing size, and one picture of 12 MB that three decoders look at."""
    found: list[dict[str, Any]] = []
    for width in (32, 2048, 32768):
        call = a_call(NONE, width=width)
        seconds = times(partial(lambda one: engine.submit("noop", [one]).result(60), call), calls // 4)
        found.append({"bytes": call.links[0].embeddings.nbytes, **milliseconds(seconds)})
    picture = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    for readers in (1, 2, 3):
        before = engine._store.puts
        fresh = picture + np.uint8(readers)
        start = time.perf_counter()
        asked = [
            engine.submit(kind.decoder, [a_call(kind, image=fresh)]) for kind in (NONE, ONE, MANY)[:readers]
        ]
        for one in asked:
            one.result(60)
        found.append(
            {
                "bytes": fresh.nbytes,
                "readers": readers,
                "puts": engine._store.puts - before,
                "ms": round((time.perf_counter() - start) * 1e3, 1),
            }
        )
    return found


def replicas(folder: Path, most: int, count: int, seconds: float) -> list[dict[str, Any]]:
    """Throughput of one decoder with more and more replicas."""
    found = []
    for number in range(1, most + 1):
        own = DecoderPlacement(num_cpus=0.1, replicas=number, max_batch=1)
        engine = RayEngine(placement=Placement(decoders={"batched": own})).start(
            folder, decoders=[SleeperConfig]
        )
        found.append({"replicas": number, **sessions(engine, "batched", MANY, count, seconds)})
        engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--replicas", type=int, default=3, help="0 leaves that part out")
    given = parser.parse_args()
    place = Placement(
        decoder=DecoderPlacement(num_cpus=0.1, max_batch=given.sessions),
        decoders={"single": DecoderPlacement(num_cpus=0.1, max_batch=1)},
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = model_folder(Path(temporary))
        engine = RayEngine(placement=place).start(folder, decoders=[SleeperConfig])
        result: dict[str, Any] = {
            "hops": hops(engine, "noop", NONE, 0.0, given.calls),
            "alone": hops(engine, "single", ONE, FIXED + EACH, given.calls),
            "batching": batching(engine, given.sessions, given.seconds),
            "payloads": payloads(engine, given.calls),
        }
        if given.replicas:
            result["replicas"] = replicas(folder, given.replicas, 8, given.seconds)
        engine.close()
    print(json.dumps(result | surroundings() | {"ray": ray.__version__}, indent=2))


if __name__ == "__main__":
    main()
