"""Throughput of 8 different prompts in one batch against 8 calls of one. Prints one JSON object.

    python benchmarks/generation.py [--model tiny|FOLDER] [--tokens 32] [--repeats 7]

Every answer is forced to be of the same kind (words and two link groups, at other places in every
row), so all runs do the same work whatever the weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from benchmarks.report import medians, surroundings, timed
from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import load_model
from superlink.router.generation import GenerateOptions, Request, generate
from superlink.router.messages import Message
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer

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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="name of an embedded model, or a model folder")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    model = load_model(model_folder(given.model), device=given.device)
    router, tokenizer = model.router, model.tokenizer
    asked = requests(router, tokenizer, given.tokens)
    together, apart = medians(
        [
            timed(lambda: generate(router, tokenizer, asked)),
            timed(lambda: [generate(router, tokenizer, [one]) for one in asked]),
        ],
        given.repeats,
    )
    result = {
        "benchmark": "generation",
        "model": given.model,
        "prompts": len(asked),
        "tokens_each": given.tokens,
        "one_batch_seconds": round(together.wall, 4),
        "one_by_one_seconds": round(apart.wall, 4),
        "tokens_per_second": round(len(asked) * given.tokens / together.wall, 1),
        "speedup": round(apart.wall / together.wall, 2),
        "cpu_speedup": round(apart.cpu / together.cpu, 2),
        "target_speedup": 4.0,
        "device": given.device,
        "threads": torch.get_num_threads(),
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
