"""One router and many callers: 16 at the same time against one after the other, and a second round on a
picture against the first. Prints one JSON object.

    python benchmarks/generating_together.py [--model tiny|FOLDER] [--sessions 16] [--tokens 32] [--repeats 5]

Every answer is forced to be of the same kind (words and two link groups, at other places in every
row; in rounds an answer in the words of training), so all runs do the same work whatever the weights.
The time of a round is that until its first word: encoding, vision and reading; from then on both
rounds write alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from benchmarks import generation
from benchmarks.report import Seconds, Stopwatch, medians, surroundings, timed
from superlink.agents.embedded import model_folder
from superlink.agents.model_folder import Model, load_model
from superlink.agents.router_service import RouterService
from superlink.router.encoding import NOT_LEARNED, encode
from superlink.router.generation import GenerateOptions, Request
from superlink.router.links import Reply
from superlink.router.messages import Message
from superlink.router.requests import Finished


def requests(model: Model, sessions: int, tokens: int, *, seed: int = 0, side: int = 224) -> list[Request]:
    """A prompt and a picture for each session, answers of `tokens` ids."""
    kinds = generation.requests(model.router, model.tokenizer, tokens)
    rng = np.random.default_rng(seed)
    found = []
    for number in range(sessions):
        kind = kinds[number % len(kinds)]
        picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        found.append(replace(kind, conversation=(replace(kind.conversation[0], images=(picture,)),)))
    return found


def reply_of(service: RouterService, request: Request) -> Reply:
    (reply,) = (event.reply for event in service.stream([request]) if isinstance(event, Finished))
    return reply


def together(service: RouterService, asked: Sequence[Request]) -> list[Reply]:
    """Every request from a thread of its own."""
    with ThreadPoolExecutor(len(asked)) as threads:
        return list(threads.map(lambda one: reply_of(service, one), asked))


def first_word(service: RouterService, request: Request) -> tuple[Seconds, Reply]:
    """How long it takes to the first word, and the reply."""
    watch = Stopwatch()
    events = service.stream([request])
    next(events)
    seconds = watch.read()
    (reply,) = (event.reply for event in events if isinstance(event, Finished))
    return seconds, reply


def answer_ids(model: Model, text: str) -> tuple[int, ...]:
    """What a router writes to answer with `text`: a later round then repeats it id by id."""
    talk = (Message(role="user", text="?"), Message(role="assistant", text=text))
    batch = encode(talk, model.tokenizer, model.router.config, training=True)
    assert batch.labels is not None
    return tuple(batch.labels[batch.labels != NOT_LEARNED].tolist())


def rounds(
    service: RouterService, model: Model, side: int
) -> tuple[Callable[[], Seconds], Callable[[], Seconds]]:
    """A first round on a picture that is new each time, and a second round after it."""
    last: list[tuple[Request, Reply]] = []
    rng = np.random.default_rng(0)
    token = next(iter(model.router.config.routing_ids.values())).text
    options = GenerateOptions(forced=answer_ids(model, f"Here they are:<det> star</det>{token}."))

    def first() -> Seconds:
        picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        question = Message(role="user", text="Find every star.", images=(picture,))
        asked = Request(conversation=(question,), options=options)
        seconds, reply = first_word(service, asked)
        last[:] = [(asked, reply)]
        return seconds

    def second() -> Seconds:
        asked, reply = last[0]
        question = Message(role="user", text="And the largest of them?")
        answer = Message(role="assistant", text=reply.raw)
        return first_word(
            service, Request(conversation=(*asked.conversation, answer, question), options=options)
        )[0]

    return first, second


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="name of an embedded model, or a model folder")
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--side", type=int, default=224, help="pixels of a picture")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    model = load_model(model_folder(given.model), device=given.device)
    asked = requests(model, given.sessions, given.tokens, side=given.side)
    # Nothing is reused in the first comparison: every run asks the same.
    service = RouterService(model.router, model.tokenizer, prefix_bytes=0)
    fast, slow = medians(
        [
            timed(lambda: together(service, asked)),
            timed(lambda: [reply_of(service, one) for one in asked]),
        ],
        given.repeats,
    )
    service.close()
    remembering = RouterService(model.router, model.tokenizer)
    first, second = medians(rounds(remembering, model, given.side), given.repeats)
    status = remembering.status()
    remembering.close()
    result = {
        "benchmark": "generating_together",
        "model": given.model,
        "sessions": given.sessions,
        "tokens_each": given.tokens,
        "picture_side": given.side,
        "together_seconds": round(fast.wall, 4),
        "one_by_one_seconds": round(slow.wall, 4),
        "tokens_per_second": round(given.sessions * given.tokens / fast.wall, 1),
        "speedup": round(slow.wall / fast.wall, 2),
        "cpu_speedup": round(slow.cpu / fast.cpu, 2),
        "target_speedup": 4.0,
        "first_round_seconds": round(first.wall, 4),
        "second_round_seconds": round(second.wall, 4),
        "round_speedup": round(first.wall / second.wall, 2),
        "cpu_round_speedup": round(first.cpu / second.cpu, 2),
        "target_round_speedup": 3.0,
        "prefix_hits": status.prefix_hits,
        "prefix_positions": status.prefix_positions,
        "device": given.device,
        "threads": torch.get_num_threads(),
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
