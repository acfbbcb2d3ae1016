"""Steps about the way of values: branches, loops, nested items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import Unpack

from superlink.router.errors import InputError
from superlink.workflows.graph.bodies import Body
from superlink.workflows.graph.context import StepContext
from superlink.workflows.graph.definition import Handle, Port, Step
from superlink.workflows.graph.errors import WorkflowError
from superlink.workflows.graph.policies import Policies, PolicyOptions, policies_with
from superlink.workflows.graph.port_types import PortType, element_of, fits, list_of, name_of, union_of
from superlink.workflows.steps.conditions import Condition, checked_condition


def where(condition: Condition, **options: Unpack[PolicyOptions]) -> Step:
    """Keep the nested items for which a condition is true; the others end here.

    `where(condition)(values)` keeps values, `where(condition)(values, others)` the others that go with
    them. Nothing waits for the whole list: each item is decided by itself.
    """
    holds = checked_condition(condition, "the condition of where")

    def run(value: Any, *others: Any) -> list[Any]:
        return [others[-1] if others else value] if holds(value) else []

    return Step(
        kind="where",
        ports=(Port(name="value"), Port(name="keep", required=False, variadic=True)),
        run=run,
        infer=lambda types: types.get("keep", types["value"]),
        filters=True,
        parameters={"condition": condition},
        name=options.get("name", ""),
        policies=policies_with(Policies(), options),
    )


def each(**options: Unpack[PolicyOptions]) -> Step:
    """Open a list: every later step takes its elements one by one."""
    return Step(
        kind="each",
        ports=(Port(name="values", type=list),),
        run=list,
        infer=lambda types: element_of(types["values"]),
        opens=True,
        light=True,
        name=options.get("name", ""),
        policies=policies_with(Policies(), options),
    )


def gather(*, failed: str = "raise", **options: Unpack[PolicyOptions]) -> Step:
    """Close the innermost level: all of its items as one list.

    Args:
        failed: "raise": the list fails with the first item that failed; "skip" leaves such items out.
        **options: policies.
    """
    return Step(
        kind="gather",
        ports=(Port(name="values", gathers="yes", skips_failed=skips(failed)),),
        run=list,
        infer=lambda types: list_of(types["values"]),
        light=True,
        parameters={"failed": failed},
        name=options.get("name", ""),
        policies=policies_with(Policies(), options),
    )


def map(body: Any, **options: Unpack[PolicyOptions]) -> Callable[..., Handle]:
    """Run a step or workflow on every element of a list: `map(body)(values, *others)`.

    What comes out is nested; `gather()` makes it a list. Elements go their way independently.

    Raises:
        InputError: options for a workflow, which has none; its steps have.
    """
    if options and not isinstance(body, Step):
        raise InputError(
            f"map takes {', '.join(options)} for a step, got {type(body).__name__}; "
            f"give them to the steps in it"
        )

    def joined(values: Handle, *others: Handle) -> Handle:
        step = body.using(**options) if isinstance(body, Step) and options else body
        opened: Handle = each()(values)
        result: Handle = step(opened, *others)
        return result

    return joined


def branch(
    condition: Condition, *, then: Any = None, otherwise: Any = None, **options: Unpack[PolicyOptions]
) -> Step:
    """One of two ways, decided by a condition on the first value; only that one runs.

    Args:
        condition: of the first value.
        then: step, or workflow with one output, for all values; None passes the first value on.
        otherwise: the same, for when the condition is false.
        **options: policies.

    Raises:
        WorkflowError: neither is given, or they take different things.
    """
    holds = checked_condition(condition, "the condition of a branch")
    arms = {
        name: Body(arm, f"{name!r} of a branch")
        for name, arm in (("then", then), ("otherwise", otherwise))
        if arm is not None
    }
    if not arms:
        raise WorkflowError("a branch needs a step or workflow for 'then' or 'otherwise', got neither")
    ports = _shared_ports(list(arms.values()))

    def run(context: StepContext, *values: Any) -> Any:
        arm = arms.get("then" if holds(values[0]) else "otherwise")
        return values[0] if arm is None else arm.run(values, context, seed=context.run_seed)

    def infer(types: Any) -> PortType:
        kinds = [arm.returns for arm in arms.values()]
        return union_of(*kinds, *([types[ports[0].name]] if len(arms) == 1 else []))

    return Step(
        kind="branch",
        ports=ports,
        run=run,
        infer=infer,
        contextual=True,
        parameters={"condition": condition},
        bodies={name: arm.what for name, arm in arms.items()},
        name=options.get("name", ""),
        policies=policies_with(Policies(), options),
    )


def loop(body: Any, *, until: Condition, max_rounds: int, **options: Unpack[PolicyOptions]) -> Step:
    """Run a body again on what it made, until a condition is true of that or the rounds are used up.

    Args:
        body: step, or workflow with one output, that takes the state (and further values, the same in
            every round) and gives the next state.
        until: of the state after a round.
        max_rounds: at most so many; the last state is the result in any case.
        **options: policies.

    Raises:
        WorkflowError: what the body gives does not fit what it takes.
        InputError: no rounds.
    """
    holds = checked_condition(until, "the condition of a loop")
    rounds: object = max_rounds
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise InputError(f"max_rounds is a whole number from 1, got {max_rounds!r}")
    inner = Body(body, "the body of a loop")
    if not inner.ports:
        raise WorkflowError(f"the body of a loop takes the state, {inner.name!r} takes nothing")
    state = inner.ports[0]
    if not fits(inner.returns, state.type):
        raise WorkflowError(
            f"loop, port {state.name!r}: expected {name_of(state.type)} for the next round, "
            f"got {name_of(inner.returns)} from {inner.name!r}"
        )

    def run(context: StepContext, value: Any, *others: Any) -> Any:
        for number in range(max_rounds):
            value = inner.run((value, *others), context, seed=context.run_seed + number)
            if holds(value):
                break
        return value

    return Step(
        kind="loop",
        ports=inner.ports,
        run=run,
        infer=lambda types: inner.returns,
        contextual=True,
        parameters={"until": until, "max_rounds": max_rounds},
        bodies={"body": inner.what},
        name=options.get("name", ""),
        policies=policies_with(Policies(), options),
    )


def skips(failed: str) -> bool:
    """Whether items that failed are left out.

    Raises:
        InputError: no such choice.
    """
    if failed not in ("raise", "skip"):
        raise InputError(f"failed is 'raise' or 'skip', got {failed!r}")
    return failed == "skip"


def _shared_ports(arms: list[Body]) -> tuple[Port, ...]:
    """Ports that fit both arms."""
    first, last = arms[0], arms[-1]
    if len(first.ports) != len(last.ports):
        raise WorkflowError(
            f"branch: expected arms that take the same, {first.name!r} takes {len(first.ports)} values "
            f"and {last.name!r} {len(last.ports)}"
        )
    ports = []
    for one, other in zip(first.ports, last.ports, strict=True):
        if not (fits(one.type, other.type) or fits(other.type, one.type)):
            raise WorkflowError(
                f"branch, port {one.name!r}: expected {name_of(one.type)} as {first.name!r} takes, "
                f"got {name_of(other.type)} of {last.name!r}"
            )
        ports.append(one if fits(one.type, other.type) else other)
    return tuple(ports)
