"""Throughput of 8 different prompts in one batch against 8 calls of one. Prints one JSON object.

    python benchmarks/generation.py [--model FOLDER] [--tokens 32] [--repeats 7]

Without --model, a router of random weights and the size of `tiny` writes: what it says means
nothing, but every answer is forced to be of the same kind (words and two link groups), so all
runs do the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from superlink.router.checkpoint import load_router
from superlink.router.config import RouterConfig
from superlink.router.generation import GenerateOptions, Request, generate
from superlink.router.messages import Message
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.router.tokens import RoutingToken

PROMPTS = (
    "Find every red circle.",
    "Outline the star and the largest of the hearts, please.",
    "Where is the leftmost ring?",
    "Segment all the blue squares in this picture.",
    "Hello, who are you?",
    "Detect triangles, crosses and diamonds.",
    "What is in the picture?",
    "Mark the small green heart.",
)


def random_router() -> tuple[Router, RouterTokenizer]:
    """The sizes of `tiny`: a language model of 192 x 4, 64 visual tokens a picture."""
    tokenizer = RouterTokenizer.train(PROMPTS * 50, 1024)
    config = RouterConfig(
        vision={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 224,
            "patch_size": 28,
        },
        llm={
            "vocab_size": tokenizer.size,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 1024,
        },
        tokens=(
            RoutingToken(text="[DET]", decoder="grounding_dino", table="det"),
            RoutingToken(text="[SEG]", decoder="grounding_dino", table="det"),
        ),
        token_ids=tokenizer.token_ids,
        tiling="square",
    )
    torch.manual_seed(0)
    return Router(config).eval(), tokenizer


def requests(router: Router, tokenizer: RouterTokenizer, tokens: int) -> list[Request]:
    """Different prompts and pictures; answers of `tokens` ids with two links at different places."""
    rng = np.random.default_rng(0)
    words = tokenizer.encode("the red circle and the star, ")
    routing = sorted(router.config.routing_ids)
    found = []
    for index, prompt in enumerate(PROMPTS):
        answer = (words * tokens)[:tokens]
        answer[tokens // 3 - index % 3] = routing[index % len(routing)]
        answer[tokens // 2 + index % 5] = routing[0]
        picture = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        message = Message(role="user", text=prompt, images=(picture,))
        found.append(Request(conversation=(message,), options=GenerateOptions(forced=tuple(answer))))
    return found


def medians(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median wall seconds of each run, taken in turns so that other load falls on all alike."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a router; random weights without it")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.model is None:
        router, tokenizer = random_router()
    else:
        router, tokenizer = load_router(given.model), RouterTokenizer.load(given.model)
    router = router.eval().to(given.device)
    asked = requests(router, tokenizer, given.tokens)
    together, apart = medians(
        [
            lambda: generate(router, tokenizer, asked),
            lambda: [generate(router, tokenizer, [one]) for one in asked],
        ],
        given.repeats,
    )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    result = {
        "benchmark": "generation",
        "model": str(given.model or "random, 192 x 4, 64 visual tokens"),
        "prompts": len(asked),
        "tokens_each": given.tokens,
        "one_batch_seconds": round(together, 4),
        "one_by_one_seconds": round(apart, 4),
        "tokens_per_second": round(len(asked) * given.tokens / together, 1),
        "speedup": round(apart / together, 2),
        "target_speedup": 4.0,
        "device": given.device,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit.stdout.strip(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
