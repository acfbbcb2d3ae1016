"""Random graphs with random failures keep the promises about isolation, order and repeats.

The source of truth is a plain evaluation of the same graph, node after node, for one item.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superlink import StepError, Workflow, steps


@dataclass(frozen=True)
class Spec:
    """One node: what it takes, and for which values it fails."""

    kind: str  # "add" | "each" | "gather" | "where"
    sources: tuple[int, ...]
    poison: int  # fails where its result modulo 7 is this


@st.composite
def graphs(draw: st.DrawFn) -> list[Spec]:
    """Nodes that build on earlier ones; node 0 is the input."""
    nodes: list[Spec] = []
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["add", "add", "add", "each", "gather", "where"]))
        count = 2 if kind == "add" else 1
        sources = tuple(draw(st.integers(0, number)) for _ in range(count))
        nodes.append(Spec(kind, sources, draw(st.integers(0, 20))))
    return nodes


class Poisoned(Exception):
    """What a random step raises."""


def valid(nodes: list[Spec]) -> list[tuple[Spec, tuple[int, ...]]]:
    """Nodes with the lists that they are nested in; what would not fit becomes a sum of node 0."""
    nesting: list[tuple[int, ...]] = [()]
    filters: set[int] = set()
    found = []
    for number, node in enumerate(nodes, start=1):
        levels = [nesting[source] for source in node.sources]
        deepest = max(levels, key=len)
        lists = [level for level in deepest if level not in filters]
        fits = all(deepest[: len(level)] == level for level in levels)
        if not fits or (node.kind in ("gather", "where") and not lists):
            node = Spec("add", (0, 0), node.poison)
            deepest = ()
        if node.kind == "gather":
            while deepest[-1] in filters:
                deepest = deepest[:-1]
            nesting.append(deepest[:-1])
        elif node.kind in ("each", "where"):
            if node.kind == "where":
                filters.add(number)
            nesting.append((*deepest, number))
        else:
            nesting.append(deepest)
        found.append((node, nesting[-1]))
    return found


def combine(node: Spec, number: int, values: list[int]) -> int:
    result = sum(values) * 3 + number
    if result % 7 == node.poison:
        raise Poisoned(number)
    return result


def few(value: int) -> list[int]:
    return [value + k for k in range(value % 4)]


def built(nodes: list[tuple[Spec, tuple[int, ...]]], note: Callable[[int, Any], None]) -> Workflow:
    wf = Workflow("random")
    handles = [wf.input("x", int)]

    def adding(node: Spec, number: int) -> Any:
        @steps.step(name=f"n{number}")
        def run(a: int, b: int) -> int:
            note(number, (a, b))
            return combine(node, number, [a, b])

        return run

    def listing(node: Spec, number: int) -> Any:
        @steps.step(name=f"list{number}")
        def run(a: int) -> list[int]:
            note(number, a)
            combine(node, number, [a])
            return few(a)

        return run

    def summing(number: int) -> Any:
        @steps.step(name=f"sum{number}")
        def run(values: list[int]) -> int:
            return sum(values)

        return run

    for number, (node, _) in enumerate(nodes, start=1):
        sources = [handles[source] for source in node.sources]
        match node.kind:
            case "add":
                handle = adding(node, number)(*sources)
            case "each":
                handle = steps.each(name=f"n{number}")(listing(node, number)(*sources))
            case "gather":
                gathered = steps.gather(name=f"gather{number}")(*sources)
                handle = summing(number)(gathered)
            case _:
                handle = steps.where(lambda value: value % 3 != 0, name=f"n{number}")(*sources)
        handles.append(handle)
    for number, handle in enumerate(handles):
        wf.output(f"o{number}", handle)
    return wf


FAILED = object()


class Oracle:
    """Evaluates one item: values by node, in dicts by the path of nested items."""

    def __init__(self, nodes: list[tuple[Spec, tuple[int, ...]]], x: int) -> None:
        self.nesting: list[tuple[int, ...]] = [(), *(level for _, level in nodes)]
        self.filters = {k for k, (node, _) in enumerate(nodes, start=1) if node.kind == "where"}
        self.calls: Counter[Any] = Counter()
        # paths of frames: for every opener, from a frame's path to its children's
        self.children: dict[tuple[int, tuple[int, ...]], Any] = {}
        self.values: list[dict[tuple[int, ...], Any]] = [{(): x}]
        for number, (node, level) in enumerate(nodes, start=1):
            self.values.append({})
            runs_in = level[:-1] if node.kind in ("each", "where") else level
            for path in self.frames(runs_in):
                self.evaluate(node, number, path)

    def frames(self, level: tuple[int, ...]) -> list[tuple[int, ...]]:
        paths: list[tuple[int, ...]] = [()]
        for opener in level:
            paths = [
                (*path, place)
                for path in paths
                if self.children[opener, path] is not FAILED
                for place in range(self.children[opener, path])
            ]
        return paths

    def evaluate(self, node: Spec, number: int, path: tuple[int, ...]) -> None:
        source = node.sources[0]
        if node.kind == "gather":
            found = self.listed(source, len(path), path)
            bad = found is FAILED or any(value is FAILED for value in found)
            self.values[number][path] = FAILED if bad else sum(found)
            return
        values = [self.values[one][path[: len(self.nesting[one])]] for one in node.sources]
        if any(value is FAILED for value in values):
            self.put(node, number, path, FAILED)
            return
        if node.kind == "where":
            self.put(node, number, path, [values[0]] if values[0] % 3 != 0 else [])
            return
        self.calls[number, tuple(values) if node.kind == "add" else values[0]] += 1
        try:
            made: Any = combine(node, number, values)
        except Poisoned:
            made = FAILED
        if node.kind == "each" and made is not FAILED:
            made = few(values[0])
        self.put(node, number, path, made)

    def put(self, node: Spec, number: int, path: tuple[int, ...], made: Any) -> None:
        if node.kind == "add":
            self.values[number][path] = made
            return
        self.children[number, path] = FAILED if made is FAILED else len(made)
        if made is not FAILED:
            for place, value in enumerate(made):
                self.values[number][(*path, place)] = value

    def listed(self, number: int, depth: int, path: tuple[int, ...]) -> Any:
        """Values below a path as nested lists; filters make no list of their own."""
        level = self.nesting[number]
        if depth == len(level):
            return self.values[number][path]
        children = self.children[level[depth], path]
        if children is FAILED:
            return FAILED
        found = []
        for place in range(children):
            inner, at = (*path, place), depth + 1
            dropped = failed = False
            while at < len(level) and level[at] in self.filters and not (dropped or failed):
                kept = self.children[level[at], inner]
                failed, dropped = kept is FAILED, kept == 0
                inner, at = (*inner, 0), at + 1
            if failed:
                found.append(FAILED)
            elif not dropped:
                found.append(self.listed(number, at, inner))
        return found


def plain(value: Any) -> Any:
    if isinstance(value, StepError):
        assert isinstance(value.__cause__, Poisoned)
        return FAILED
    return [plain(one) for one in value] if isinstance(value, list) else value


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.lists(st.integers(0, 12), min_size=1, max_size=6), st.sampled_from([1, 2, 8]))
def test_every_item_gets_what_a_plain_evaluation_gives_and_nothing_runs_twice(
    specs: list[Spec], inputs: list[int], concurrency: int
) -> None:
    nodes = valid(specs)
    calls: Counter[Any] = Counter()
    lock = threading.Lock()

    def note(number: int, values: Any) -> None:
        with lock:
            calls[number, values] += 1

    wf = built(nodes, note)
    results = wf.batch(inputs, errors="return", max_concurrency=concurrency)
    expected: Counter[Any] = Counter()
    for x, result in zip(inputs, results, strict=True):
        oracle = Oracle(nodes, x)
        expected += oracle.calls
        assert not isinstance(result, StepError)  # the input itself is an output
        for number in range(len(nodes) + 1):
            assert plain(result[f"o{number}"]) == oracle.listed(number, 0, ())
    assert calls == expected
