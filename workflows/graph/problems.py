"""Problems of definitions, each in one line that names step, port, expected and given."""

from __future__ import annotations

from collections.abc import Sequence

from superlink.workflows.graph.definition import Handle, Port, describe_port
from superlink.workflows.graph.errors import Problem
from superlink.workflows.graph.port_types import PortType, name_of


def unknown(name: str, port: str, ports: Sequence[Port]) -> Problem:
    there = ", ".join(one.name for one in ports) or "none"
    return Problem(
        message=f"step {name!r}: expected ports {there}, got port {port}",
        step=name,
        port=port,
        expected=there,
        given=port,
    )


def missing(name: str, port: Port) -> Problem:
    expected = describe_port(port)
    return Problem(
        message=f"step {name!r}, port {port.name!r}: expected {expected}, got nothing (missing input)",
        step=name,
        port=port.name,
        expected=expected,
        given="nothing",
    )


def no_output(place: str, step: str, port: str, expected: str, handle: Handle) -> Problem:
    return Problem(
        message=f"{place}: expected {expected} of {handle.node.name!r}, got {handle.output or 'no name'!r}",
        step=step,
        port=port,
        expected=expected,
        given=handle.output or "no name",
    )


def mismatch(
    step: str, port: str, expected: PortType | str, given: PortType | str, note: str = ""
) -> Problem:
    """A port that expects another type."""
    wants = expected if isinstance(expected, str) else name_of(expected)
    has = given if isinstance(given, str) else name_of(given)
    return Problem(
        message=f"step {step!r}, port {port!r}: expected {wants}, got {has}{note}",
        step=step,
        port=port,
        expected=wants,
        given=has,
    )
