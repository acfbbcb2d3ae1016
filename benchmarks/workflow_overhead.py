"""What a workflow adds to the work of its steps. Prints one JSON object.

    python benchmarks/workflow_overhead.py [--runs 300]

Three steps that do nothing, in a chain, against the same in a langchain-core RunnableSequence and in
LangGraph's compiled graph, where that is installed; calls take turns, so that other load falls on all alike.
Then five branches, one of which takes 50 ms: how long until the steps after the fast ones are done.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # when it is run by its path

from langchain_core.runnables import RunnableLambda

from benchmarks.report import surroundings
from superlink.workflows import steps
from superlink.workflows.graph.workflow import Workflow

TARGETS = {"chain_us": 200.0, "fan_out_ms": 10.0}
WARM_UP = 30
SLOW_SECONDS = 0.05


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=300, help="calls of each chain")
    options = parser.parse_args(arguments)
    chains = {"workflow": workflow_chain(), "runnable_sequence": sequence_chain()}
    graph = langgraph_chain()
    if graph is not None:
        chains["langgraph"] = graph
    report = {
        "benchmark": "workflow_overhead",
        "chain": chain_times(chains, options.runs),
        "langgraph": "measured" if graph is not None else "not installed here, so not compared",
        "fan_out": fan_out(max(5, options.runs // 30)),
        "targets": TARGETS,
        **surroundings(),
    }
    report["versions"] |= {
        name: found for name in ("langchain-core", "langgraph") if (found := installed(name))
    }
    sys.stdout.write(json.dumps(report) + "\n")


def same(value: int) -> int:
    return value


def workflow_chain() -> Callable[[int], Any]:
    """Three steps of our own."""
    step = steps.step(same)
    workflow = Workflow("chain")
    value = workflow.input("value", int)
    workflow.output("value", step(step(step(value))))
    workflow.check()
    return workflow.invoke


def sequence_chain() -> Callable[[int], Any]:
    """Three RunnableLambdas."""
    chain = RunnableLambda(same) | RunnableLambda(same) | RunnableLambda(same)
    return chain.invoke


def langgraph_chain() -> Callable[[int], Any] | None:
    """Three nodes of a compiled graph; None where LangGraph is not installed."""
    if find_spec("langgraph") is None:
        return None
    from typing_extensions import TypedDict

    class State(TypedDict):
        value: int

    def node(state: State) -> State:
        return {"value": state["value"]}

    from langgraph.graph import END, START, StateGraph

    builder = StateGraph(State)
    names = ["first", "second", "third"]
    for name in names:
        builder.add_node(name, node)
    for start, end in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(start, end)
    compiled = builder.compile()
    return lambda value: compiled.invoke({"value": value})


def chain_times(chains: dict[str, Callable[[int], Any]], runs: int) -> dict[str, dict[str, float]]:
    """Microseconds of a call, by what is called."""
    seconds: dict[str, list[float]] = {name: [] for name in chains}
    for number in range(runs + WARM_UP):
        for name, call in chains.items():
            start = time.perf_counter()
            call(number)
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "best_us": round(min(found[WARM_UP:]) * 1e6, 1),
            "median_us": round(statistics.median(found[WARM_UP:]) * 1e6, 1),
        }
        for name, found in seconds.items()
    }


def fan_out(runs: int) -> dict[str, Any]:
    """Milliseconds until the last step after a fast branch is done, while another branch sleeps."""
    done: list[float] = []

    @steps.step
    def slow(value: int) -> int:
        time.sleep(SLOW_SECONDS)
        return value

    @steps.step
    def follow(value: int) -> int:
        done.append(time.perf_counter())
        return value

    workflow = Workflow("fan")
    value = workflow.input("value", int)
    branch = steps.step(same)
    workflow.output("slow", slow(value))
    for number in range(4):
        workflow.output(f"fast{number}", follow(branch(value)))
    found = []
    for _ in range(runs + 2):
        done.clear()
        start = time.perf_counter()
        workflow.invoke(1)
        found.append((max(done) - start) * 1e3)
    return {
        "branches": 5,
        "slow_ms": SLOW_SECONDS * 1e3,
        "follow_ups_best_ms": round(min(found[2:]), 2),
        "follow_ups_median_ms": round(statistics.median(found[2:]), 2),
    }


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
