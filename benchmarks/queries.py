"""A routing token and its queries in one step against as many words one by one. Prints one JSON object.

    python benchmarks/queries.py [--model tiny|FOLDER] [--queries 64] [--threads 1 2] [--batch 1 4]

Both are written by the same router with the generation loop that serves: after the same prompts, each with a
picture, one reply is a routing token alone, whose queries the loop appends, and the other is ordinary
words. Replies are forced, so none ends early. What is timed begins when the prompts are read. The target
is for `speedup`, of wall times; that of CPU times tells more where other work runs on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from benchmarks.generation import PROMPTS
from benchmarks.report import Seconds, Stopwatch, medians, surroundings
from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import load_model
from superlink.decoders.diffusion.config import generation_routes
from superlink.router.generation import (
    Finished,
    GenerateOptions,
    GenerationLoop,
    Request,
    StepStates,
)
from superlink.router.links import Reply
from superlink.router.messages import Message
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.router.tokens import RoutingToken

TARGET = 10.0


def with_queries(router: Router, queries: int) -> tuple[Router, RoutingToken]:
    """The router and a routing token of so many queries: its own, or [GEN] with a fresh table."""
    for token in router.config.tokens:
        if token.kind == "super" and token.num_links == queries:
            return router, token
    made = generation_routes(queries)[0].token
    others = tuple(token for token in router.config.tokens if made.text != token.text)
    grown = Router(replace(router.config, tokens=(*others, made)))
    table = f"queries.{made.table}.weight"
    grown.load_state_dict({**router.state_dict(), table: grown.state_dict()[table]})
    return grown.to(router.device).eval(), made


def requests(forced: Sequence[int], count: int) -> list[Request]:
    """Different prompts and pictures whose answers are these ids."""
    rng = np.random.default_rng(0)
    options = GenerateOptions(forced=tuple(forced))
    return [
        Request(
            conversation=(
                Message(
                    role="user",
                    text=PROMPTS[index % len(PROMPTS)],
                    images=(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8),),
                ),
            ),
            options=options,
        )
        for index in range(count)
    ]


def routed(router: Router, token: RoutingToken) -> list[int]:
    """The reply whose only step appends the queries."""
    return [router.config.token_ids[token.text]]


def spoken(tokenizer: RouterTokenizer, words: int) -> list[int]:
    """A reply of so many steps: each reads one word and writes the next, so there is one word more."""
    ids = tokenizer.encode("the red circle and the star, ")
    return [ids[index % len(ids)] for index in range(words + 1)]


def write(
    router: Router,
    tokenizer: RouterTokenizer,
    asked: Sequence[Request],
    *,
    observe: Callable[[StepStates], None] | None = None,
) -> tuple[list[Reply], Seconds]:
    """The replies in order, and how long all steps after the prompts took."""
    loop = GenerationLoop(router, tokenizer, observe=observe)
    loop.add(asked)
    loop.step()
    replies: dict[int, Reply] = {}
    watch = Stopwatch()
    while len(loop):
        for event in loop.step():
            if isinstance(event, Finished):
                replies[event.row] = event.reply
    seconds = watch.read()
    return [replies[row] for row in range(len(asked))], seconds


def seconds_of(router: Router, tokenizer: RouterTokenizer, asked: Sequence[Request]) -> Seconds:
    """How long all steps after the prompts take."""
    return write(router, tokenizer, asked)[1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="name of an embedded model, or a model folder")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="that torch uses")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="replies written together")
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args(arguments)
    model = load_model(model_folder(given.model))
    tokenizer = model.tokenizer
    router, token = with_queries(model.router, given.queries)
    before = torch.get_num_threads()
    runs = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        for batch in given.batch:
            one_step = requests(routed(router, token), batch)
            one_by_one = requests(spoken(tokenizer, given.queries), batch)
            together, apart = medians(
                [
                    partial(seconds_of, router, tokenizer, one_step),
                    partial(seconds_of, router, tokenizer, one_by_one),
                ],
                given.repeats,
            )
            runs.append(
                {
                    "threads": threads,
                    "batch": batch,
                    "one_step_ms": round(1000 * together.wall, 3),
                    "one_by_one_ms": round(1000 * apart.wall, 3),
                    "speedup": round(apart.wall / together.wall, 2),
                    "one_step_cpu_ms": round(1000 * together.cpu, 3),
                    "one_by_one_cpu_ms": round(1000 * apart.cpu, 3),
                    "cpu_speedup": round(apart.cpu / together.cpu, 2),
                }
            )
    torch.set_num_threads(before)
    result = {
        "benchmark": "queries",
        "model": given.model,
        "token": token.text,
        "queries": given.queries,
        "fresh_table": router is not model.router,
        "repeats": given.repeats,
        "runs": runs,
        "least_speedup": min(run["speedup"] for run in runs),
        "target_speedup": TARGET,
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
