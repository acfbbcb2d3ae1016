"""Frames: the values of one run of a region, and which steps can start because of a new one.

Everything here runs under the lock of one `Run`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from superlink.workflows.graph.errors import StepError
from superlink.workflows.graph.plan import Collection, Fixed, Plan, Planned, PlannedOutput, Read, Region

PENDING: Any = object()

Ready = list[tuple[Planned, "Frame"]]


class Item:
    """One input on its way through the plan."""

    __slots__ = ("active", "index", "observer", "root", "seed")

    def __init__(self, plan: Plan, index: int, *, seed: int, observer: Any = None) -> None:
        self.index = index
        self.seed = seed
        self.observer = observer  # told about steps; None: nobody is interested
        self.active = 0  # steps that are ready or running
        self.root = Frame(plan.root, None, self, 0)


class Frame:
    """One run of a region."""

    __slots__ = ("below", "index", "item", "left", "parent", "region", "values", "waits")

    def __init__(self, region: Region, parent: Frame | None, item: Item, index: int) -> None:
        self.region = region
        self.parent = parent
        self.item = item
        self.index = index  # of the item in its list
        self.values: list[Any] = [PENDING] * len(region.followers)
        self.waits = region.waits.copy()
        self.left: list[int] | None = [0] * region.collections if region.collections else None
        self.below: dict[int, list[Frame]] | None = None  # frames of deeper regions, by region

    @property
    def path(self) -> tuple[int, ...]:
        """Which of nested items this is, outermost first."""
        frame: Frame = self
        found: list[int] = []
        while frame.parent is not None:
            if frame.index >= 0:
                found.append(frame.index)
            frame = frame.parent
        return tuple(reversed(found))

    def outer(self, hops: int) -> Frame:
        frame: Frame = self
        for _ in range(hops):
            assert frame.parent is not None
            frame = frame.parent
        return frame


def started(frame: Frame, values: Iterable[tuple[int, Any]], ready: Ready) -> None:
    """Put the first values into a new frame; steps that wait for nothing more become ready."""
    region = frame.region
    for hops, slot, planned in region.outer:
        if frame.outer(hops).values[slot] is not PENDING:
            _less(planned, frame, ready)
    ready.extend((planned, frame) for planned in region.idle)
    for slot, value in values:
        filled(frame, slot, value, ready)


def filled(frame: Frame, slot: int, value: Any, ready: Ready) -> None:
    """A value is there: whoever waited for nothing else becomes ready."""
    frame.values[slot] = value
    followers = frame.region.followers[slot]
    for planned in followers.same:
        _less(planned, frame, ready)
    for planned in followers.below:
        for deeper in (frame.below or {}).get(planned.region.number, ()):
            _less(planned, deeper, ready)
    for collection in followers.collections:
        _one_less(collection, frame.outer(collection.hops), ready)


def opened(planned: Planned, frame: Frame, value: Any, ready: Ready) -> None:
    """A step gave the items of a new level, or failed.

    Args:
        planned: a step that opens a level, or filters one.
        frame: where it ran.
        value: the items; for a filter at most one. A `StepError`: there will be none.
        ready: what can start now is added.
    """
    region = planned.opened
    assert region is not None
    items: Sequence[Any] = () if isinstance(value, StepError) else value
    index = (lambda _: -1) if planned.step.filters else (lambda place: place)
    children = [Frame(region, frame, frame.item, index(place)) for place in range(len(items))]
    for child in children:
        above: Frame | None = frame
        while above is not None:
            above.below = {} if above.below is None else above.below
            above.below.setdefault(region.number, []).append(child)
            above = above.parent
    filled(frame, planned.slot, value if isinstance(value, StepError) else children, ready)
    for collection in planned.opening:
        assert frame.left is not None
        frame.left[collection.number] = len(children)
        if not children:
            filled(frame, collection.slot, collected(frame, collection.chain, collection.source), ready)
    for child, item in zip(children, items, strict=True):
        started(child, ((0, item),), ready)
    if not children:
        for collection in planned.dropping:
            _one_less(collection, frame.outer(_hops_above(collection, planned)), ready)


def _hops_above(collection: Collection, opener: Planned) -> int:
    """From the frame in which a filter ran to the one around the list that it filters."""
    return collection.chain.index(opener)


def _less(planned: Planned, frame: Frame, ready: Ready) -> None:
    frame.waits[planned.number] -= 1
    if frame.waits[planned.number] == 0:
        ready.append((planned, frame))


def _one_less(collection: Collection, around: Frame, ready: Ready) -> None:
    assert around.left is not None
    around.left[collection.number] -= 1
    if around.left[collection.number] == 0:
        filled(around, collection.slot, collected(around, collection.chain, collection.source), ready)


def collected(frame: Frame, chain: Sequence[Planned], slot: int) -> Any:
    """Values of nested frames as lists in lists; an item that failed is a `StepError` in its place.

    Args:
        frame: around the outermost list.
        chain: openers from there to the values; filters make no list of their own.
        slot: of a value in its frame.
    """
    if not chain:
        return frame.values[slot]
    opener, rest = chain[0], chain[1:]
    children = frame.values[opener.slot]
    if isinstance(children, StepError):
        return children
    found = []
    for child in children:
        place, left = child, rest
        failed: StepError | None = None
        while left and left[0].step.filters:
            kept = place.values[left[0].slot]
            if isinstance(kept, StepError):
                failed = kept
                break
            if not kept:
                place = None
                break
            place, left = kept[0], left[1:]
        if failed is not None:
            found.append(failed)
        elif place is not None:
            found.append(collected(place, left, slot))
    return found


def inputs_of(planned: Planned, frame: Frame) -> list[Any] | StepError:
    """What a step is called with; the error of the first input that could not be made."""
    values = []
    for read in planned.reads:
        if isinstance(read, Fixed):
            values.append(read.value)
            continue
        value = (frame.outer(read.hops) if read.hops else frame).values[read.slot]
        if isinstance(value, StepError):
            return value
        if read.whole:
            if read.skips_failed:
                value = [one for one in value if not isinstance(one, StepError)]
            for one in value:
                if isinstance(one, StepError):
                    return one
            if read.convert is not None:
                value = [read.convert(one) for one in value]
        elif read.convert is not None:
            value = read.convert(value)
        values.append(value)
    return values


def result_of(item: Item, output: PlannedOutput) -> Any:
    """One output of a finished item; a `StepError` where it could not be made."""
    return collected(item.root, output.chain, output.slot)


def all_errors(plan: Plan, item: Item) -> list[StepError]:
    """Of every input and step of a finished item, but not of nested items that a step left out.

    Nobody may have read a value: whoever was to may be nested in a list that is empty.
    """
    below = item.root.below or {}
    frames = [item.root, *(frame for nested in below.values() for frame in nested)]
    found = [value for frame in frames for value in frame.values if isinstance(value, StepError)]
    if not found:
        return []
    left_out: set[int] = set()
    for planned in plan.steps:
        skipping = [read for read in planned.reads if isinstance(read, Read) and read.skips_failed]
        if skipping:
            number = planned.region.number
            for frame in below.get(number, ()) if number else (item.root,):
                left_out.update(*(_left_out(read, frame) for read in skipping))
    return [error for error in found if id(error) not in left_out]


def _left_out(read: Read, frame: Frame) -> set[int]:
    """Errors, by id, of items of the list that a step reads.

    Where something further out failed, every item carries that error, but it is none of an item.
    """
    around: Frame | None = frame.outer(read.hops)
    assert around is not None
    items = around.values[read.slot]
    found = {id(one) for one in items if isinstance(one, StepError)} if isinstance(items, list) else set()
    while around is not None and found:
        found -= {id(value) for value in around.values if isinstance(value, StepError)}
        around = around.parent
    return found


def errors_in(value: Any) -> list[StepError]:
    """The errors in a result, those of nested items included."""
    if isinstance(value, StepError):
        return [value]
    if isinstance(value, list):
        return [error for one in value for error in errors_in(one)]
    return []
