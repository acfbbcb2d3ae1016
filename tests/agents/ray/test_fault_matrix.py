"""What dies × when × idle or loaded: every question ends in time, and only those concerned feel it.

`docs/faults.md` keeps the table. It is written anew with SUPERLINK_WRITE_FAULTS=1, else compared.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray

from superlink.agents.ray.engine import Deployment
from superlink.agents.turn import Turn
from superlink.decoders.contract import Outcome, Result
from superlink.router.messages import Message
from superlink.router.requests import GenerateOptions, Request
from tests.agents.ray.conftest import SEG, wait_until
from tests.agents.ray.test_faults import make_call, system_of
from tests.agents.tiny_model import reply_ids, scene

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

BUDGET = 150.0  # seconds: what the placement of these tests allows a call or a reply
TABLE = Path(__file__).resolve().parents[3] / "docs" / "faults.md"
LONG = " ".join(["Here: <det>red circle</det>[DET]"] * 12)

HEAD = """\
# What happens when something dies

Every cell is a test (`tests/agents/ray/test_fault_matrix.py`), which writes this table: a question is asked
on Ray, something dies or is given up, and the question ends within its budget with what the last
columns say. "Loaded" means that other sessions ask both decoders all the time: each of their calls
is answered, once.

| what | when | the question gets, idle | the question gets, loaded |
|---|---|---|---|
"""


@dataclass(slots=True)
class Load:
    """Calls of other sessions."""

    outcomes: list[Outcome] = field(default_factory=list)


@contextmanager
def loaded(engine: Deployment, *, busy: bool) -> Iterator[Load]:
    """Two threads for each decoder that send one call after the other, where it is busy."""
    load, over = Load(), threading.Event()

    def keep_asking(name: str, first: int) -> None:
        number = first
        while not over.is_set():
            call = make_call(number, **({"token": SEG} if name == "slow" else {}))
            load.outcomes.extend(engine.submit(name, [call]).result(2 * BUDGET))
            number += 1
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(keep_asking, name, first)
            for name in ("quick", "slow")
            for first in ((100, 5000) if busy else ())
        ]
        try:
            yield load
        finally:
            over.set()
            for one in asked:
                one.result(3 * BUDGET)


def described(outcome: Outcome) -> str:
    return "its result" if isinstance(outcome, Result) else f'failure "{outcome.kind}"'


def of_turn(turn: Turn) -> str:
    kept = "text" if turn.text else "no text"
    ends = [f'failure "{failure.kind}" of {failure.call_id.partition(".")[0]}' for failure in turn.failures]
    return ", ".join([kept, *ends] if ends else ["text and results"])


def process(engine: Deployment, name: str) -> int:
    pid: int = ray.get(engine._actors[name][0].ready.remote(), timeout=BUDGET)
    return pid


def decoder_before(engine: Deployment) -> str:
    os.kill(process(engine, "quick"), 9)
    return described(engine.submit("quick", [make_call()]).result(BUDGET)[0])


def decoder_running(engine: Deployment) -> str:
    pid = process(engine, "quick")
    future = engine.submit("quick", [make_call(seconds=2.0)])
    time.sleep(1.0)
    os.kill(pid, 9)
    return described(future.result(BUDGET)[0])


def decoder_waiting(engine: Deployment) -> str:
    pid = process(engine, "quick")
    engine.submit("quick", [make_call(1, seconds=3.0)])
    time.sleep(0.5)
    future = engine.submit("quick", [make_call(2)])
    os.kill(pid, 9)
    return described(future.result(BUDGET)[0])


def decoder_dies_of_it(engine: Deployment) -> str:
    return described(engine.submit("quick", [make_call(act="die")]).result(BUDGET)[0])


def decoder_of_a_turn(engine: Deployment) -> str:
    return of_turn(system_of(engine).ask("Find.", image=scene(), options={"slow": {"act": "die"}}))


def out_of_memory(engine: Deployment) -> str:
    return described(engine.submit("quick", [make_call(act="memory")]).result(BUDGET)[0])


def slower_than_the_deadline(engine: Deployment) -> str:
    turn = system_of(engine).ask("Find.", image=scene(), options={"slow": {"seconds": 12.0}}, deadline=8.0)
    return of_turn(turn)


def router_before(engine: Deployment) -> str:
    os.kill(process(engine, "router"), 9)
    return of_turn(system_of(engine).ask("Find.", image=scene()))


def router_writing(engine: Deployment) -> str:
    pid = process(engine, "router")
    request = Request(
        conversation=(Message(role="user", text="Find."),), options=GenerateOptions(forced=reply_ids(LONG))
    )

    class Killing:
        decoders = engine.decoders
        submit = engine.submit

        def stream(self, requests: object) -> Iterator[object]:
            for number, event in enumerate(engine.stream([request])):
                if number == 1:
                    os.kill(pid, 9)
                yield event

    turn = system_of(Killing(), LONG).ask("Find.", image=scene())
    return of_turn(turn)


def stream_closed(engine: Deployment) -> str:
    request = Request(
        conversation=(Message(role="user", text="Find."),), options=GenerateOptions(forced=reply_ids(LONG))
    )
    before = engine.status().of("router")[0].done
    events = engine.stream([request])
    next(events)
    events.close()
    wait_until(lambda: not engine.status().of("router")[0].running, BUDGET)
    finished = engine.status().of("router")[0].done - before
    return "the whole reply is written" if finished else "nothing more; the router stops writing"


def call_cancelled(engine: Deployment) -> str:
    pid = process(engine, "quick")
    engine.submit("quick", [make_call(1, seconds=2.0)])
    time.sleep(0.5)
    future = engine.submit("quick", [make_call(2, act="die")])
    time.sleep(0.3)
    assert future.cancel()
    outcome = described(engine.submit("quick", [make_call(3)]).result(BUDGET)[0])
    ran = process(engine, "quick") != pid  # the call would have ended its process
    return f"cancellation; {'it ran' if ran or outcome != 'its result' else 'it never runs'}"


CELLS: dict[tuple[str, str], Callable[[Deployment], str]] = {
    ("decoder killed", "before the call"): decoder_before,
    ("decoder killed", "while the call runs"): decoder_running,
    ("decoder killed", "while the call waits behind another"): decoder_waiting,
    ("decoder dies of the call", "whenever it runs"): decoder_dies_of_it,
    ("decoder dies of the call", "in a turn of two decoders"): decoder_of_a_turn,
    ("decoder out of memory", "while the call runs"): out_of_memory,
    ("decoder too slow", "beyond the deadline of the turn"): slower_than_the_deadline,
    ("router killed", "before the question"): router_before,
    ("router killed", "while it writes"): router_writing,
    ("client leaves", "while the router writes"): stream_closed,
    ("client cancels", "while the call waits"): call_cancelled,
}
EXPECTED = {
    decoder_before: "its result",
    decoder_running: "its result",
    decoder_waiting: "its result",
    decoder_dies_of_it: 'failure "lost"',
    decoder_of_a_turn: 'text, failure "lost" of slow',
    out_of_memory: 'failure "decoder"',
    slower_than_the_deadline: 'text, failure "timeout" of slow',
    router_before: "text and results",
    router_writing: 'text, failure "lost" of router',
    stream_closed: "nothing more; the router stops writing",
    call_cancelled: "cancellation; it never runs",
}


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[tuple[str, str, bool], str]]:
    """What every cell gave; prints the table at the end, and writes it where that is asked for."""
    found: dict[tuple[str, str, bool], str] = {}
    yield found
    if len(found) == 2 * len(CELLS):
        rows = [
            f"| {what} | {when} | {found[what, when, False]} | {found[what, when, True]} |"
            for what, when in CELLS
        ]
        text = HEAD + "\n".join(rows) + "\n"
        sys.stdout.write("\n" + text)
        if os.environ.get("SUPERLINK_WRITE_FAULTS"):
            TABLE.write_text(text, "utf-8")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "loaded"])
@pytest.mark.parametrize(("what", "when"), CELLS, ids=[" ".join(cell) for cell in CELLS])
def test_every_question_ends_in_time(
    rested: Deployment, seen: dict[tuple[str, str, bool], str], what: str, when: str, busy: bool
) -> None:
    fault = CELLS[what, when]
    with loaded(rested, busy=busy) as load:
        start = time.monotonic()
        seen[what, when, busy] = fault(rested)
        seconds = time.monotonic() - start
    assert seen[what, when, busy] == EXPECTED[fault]
    assert seconds < BUDGET
    assert [one for one in load.outcomes if not isinstance(one, Result)] == []
    assert len({one.call_id for one in load.outcomes}) == len(load.outcomes)  # none twice
    wait_until(lambda: all(one.up for one in rested.status().workers))


def test_the_table_in_the_documents_is_that_of_the_tests() -> None:
    rows = [
        f"| {what} | {when} | {EXPECTED[fault]} | {EXPECTED[fault]} |"
        for (what, when), fault in CELLS.items()
    ]
    assert TABLE.read_text("utf-8") == HEAD + "\n".join(rows) + "\n"
