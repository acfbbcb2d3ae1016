"""A checked graph, compiled for running: which value lies where, and who waits for whom.

A region is what runs once for every item of one nesting level; region 0 runs once for the whole input.
In a frame, one run of a region for one item, every step has a slot for its value. Slot 0 of an opened
region is the item itself; a step that opens a region has the frames of its items in its own slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from superlink.workflows.graph.checking import Checked, CheckedStep, Lineage, closed
from superlink.workflows.graph.definition import InputNode, Step
from superlink.workflows.graph.flatten import Bound, Constant, Source
from superlink.workflows.graph.policies import Policies
from superlink.workflows.graph.port_types import PortType, check_of, conversion

Convert = Callable[[Any], Any]


@dataclass(slots=True, eq=False)
class Fixed:
    """A constant."""

    value: Any


@dataclass(slots=True, eq=False)
class Read:
    """A value of the step's own frame, or of one further out."""

    hops: int
    slot: int
    convert: Convert | None
    whole: bool = False  # a list of all items of a level, failed ones among them
    skips_failed: bool = False


@dataclass(slots=True, eq=False)
class Collection:
    """All items of one list: when the last one is there, they lie in a slot beside the list's opener."""

    chain: tuple[Planned, ...]  # the list's opener, then the filters down to the items
    source: int  # slot of an item
    slot: int  # where the list will be
    number: int  # among the collections of the region around
    hops: int  # from an item's frame to the one around the list


@dataclass(slots=True, eq=False)
class Followers:
    """Who waits for one slot."""

    same: list[Planned] = field(default_factory=list)  # in the same frame
    below: list[Planned] = field(default_factory=list)  # in every frame of a deeper region
    collections: list[Collection] = field(default_factory=list)  # that it is an item of


@dataclass(slots=True, eq=False)
class Region:
    """What runs once for every item of one nesting level."""

    number: int
    parent: Region | None
    followers: list[Followers] = field(default_factory=list)  # of every slot
    waits: list[int] = field(default_factory=list)  # of every step here: values that must come first
    outer: list[tuple[int, int, Planned]] = field(default_factory=list)  # (hops, slot, step here)
    idle: list[Planned] = field(default_factory=list)  # steps that wait for nothing
    collections: int = 0

    def new_slot(self) -> int:
        self.followers.append(Followers())
        return len(self.followers) - 1


@dataclass(slots=True, eq=False)
class Planned:
    """One step of the plan."""

    name: str
    step: Step
    policies: Policies
    region: Region  # where it runs
    slot: int
    number: int  # among the steps of its region
    reads: tuple[Fixed | Read, ...]
    fits: Callable[[object], bool] | None  # whether a value is of the type that the step promises
    returns: PortType
    plain: bool  # nothing to do but call it
    seconds: float = math.inf  # that it took the last time
    opened: Region | None = None
    dropping: list[Collection] = field(default_factory=list)  # that wait for items which a filter drops
    opening: list[Collection] = field(default_factory=list)  # that wait for the items of this list


@dataclass(slots=True, eq=False)
class PlannedOutput:
    """Where a result is when everything has run."""

    name: str
    chain: tuple[Planned, ...]  # openers around it, from region 0
    slot: int
    type: PortType


@dataclass(slots=True, eq=False)
class Plan:
    """A graph, ready to run any number of times."""

    root: Region
    inputs: tuple[tuple[InputNode, int], ...]  # with their slots in region 0
    steps: tuple[Planned, ...]
    outputs: tuple[PlannedOutput, ...]
    ends: tuple[PlannedOutput, ...]  # steps that nothing builds on and that are no output: they may fail too


def compiled(checked: Checked) -> Plan:
    """The plan of a checked graph."""
    return _Compiler(checked).plan()


class _Compiler:
    def __init__(self, checked: Checked) -> None:
        self.checked = checked
        self.root = Region(0, None)
        self.regions: dict[Lineage, Region] = {(): self.root}
        self.planned: dict[int, Planned] = {}  # by id of flat step
        self.slots: dict[int, int] = {}  # where the value of a step or input is, in its own region
        self.collections: dict[int, Collection] = {}  # by id of the step whose values they hold

    def plan(self) -> Plan:
        inputs = []
        for node in self.checked.inputs:
            self.slots[id(node)] = self.root.new_slot()
            inputs.append((node, self.slots[id(node)]))
        for one in self.checked.steps:
            self._step(one)
        outputs = tuple(
            PlannedOutput(name, self._chain(lineage), self.slots[id(source)], kind)
            for name, source, kind, lineage in self.checked.outputs
        )
        return Plan(self.root, tuple(inputs), tuple(self.planned.values()), outputs, self._ends())

    def _ends(self) -> tuple[PlannedOutput, ...]:
        used = {id(bound.source) for one in self.checked.steps for bound in one.flat.bound}
        used |= {id(source) for _, source, _, _ in self.checked.outputs}
        return tuple(
            PlannedOutput(one.flat.name, self._chain(one.lineage), self.slots[id(one.flat)], one.returns)
            for one in self.checked.steps
            if id(one.flat) not in used
        )

    def _step(self, one: CheckedStep) -> None:
        flat = one.flat
        region = self.regions[one.runs_in]
        step, policies = flat.step, flat.policies
        planned = Planned(
            name=flat.name,
            step=step,
            policies=policies,
            region=region,
            slot=region.new_slot(),
            number=len(region.waits),
            reads=tuple(
                self._read(bound, whole, one.runs_in)
                for bound, whole in zip(flat.bound, one.gathered, strict=True)
            ),
            fits=check_of(one.returns),
            returns=one.returns,
            plain=not (step.contextual or step.opens or step.filters or policies.timeout)
            and policies.retry.times == 0,
        )
        self.planned[id(flat)] = planned
        self.slots[id(flat)] = planned.slot
        self._await(planned, one)
        if step.opens or step.filters:
            planned.opened = Region(len(self.regions), region)
            self.slots[id(flat)] = planned.opened.new_slot()
            self.regions[one.lineage] = planned.opened

    def _read(self, bound: Bound, whole: bool, runs_in: Lineage) -> Fixed | Read:
        source, port = bound.source, bound.port
        if isinstance(source, Constant):
            return Fixed(source.value)
        lineage, slot = self._place(source, whole)
        convert = conversion(self._type(source), port.type)
        return Read(len(runs_in) - len(lineage), slot, convert, whole, port.skips_failed)

    def _await(self, planned: Planned, one: CheckedStep) -> None:
        """Enter the step with everything that it waits for, each once."""
        region = planned.region
        waited: set[tuple[int, bool]] = set()
        for bound, whole in zip(one.flat.bound, one.gathered, strict=True):
            source = bound.source
            if isinstance(source, Constant) or (id(source), whole) in waited:
                continue
            waited.add((id(source), whole))
            lineage, slot = self._place(source, whole)
            followers = self.regions[lineage].followers[slot]
            if lineage == one.runs_in:
                followers.same.append(planned)
            else:
                followers.below.append(planned)
                region.outer.append((len(one.runs_in) - len(lineage), slot, planned))
        region.waits.append(len(waited))
        if not waited:
            region.idle.append(planned)

    def _place(self, source: Source, whole: bool) -> tuple[Lineage, int]:
        """Where a value lies, or the list of all values of its innermost level."""
        lineage = self._lineage(source)
        if not whole:
            return lineage, self.slots[id(source)]
        return closed(lineage), self._collection(source, lineage).slot

    def _collection(self, source: Source, lineage: Lineage) -> Collection:
        if id(source) not in self.collections:
            around, slot = self.regions[closed(lineage)], self.slots[id(source)]
            chain = self._chain(lineage)[len(closed(lineage)) :]
            made = Collection(chain, slot, around.new_slot(), around.collections, len(chain))
            around.collections += 1
            self.collections[id(source)] = made
            self.regions[lineage].followers[slot].collections.append(made)
            chain[0].opening.append(made)
            for opener in chain[1:]:
                opener.dropping.append(made)
        return self.collections[id(source)]

    def _chain(self, lineage: Lineage) -> tuple[Planned, ...]:
        return tuple(self.planned[id(flat)] for flat in lineage)

    def _lineage(self, source: Source) -> Lineage:
        return self.checked.lineages[id(source)]

    def _type(self, source: Source) -> PortType:
        return self.checked.types[id(source)]
