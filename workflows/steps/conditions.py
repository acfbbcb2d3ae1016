"""Conditions that a file can hold, beside which any function of one value will do."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any

from superlink.router.errors import InputError

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A value compared with a constant; of boxes, masks, keypoints and lists it is their number."""

    operator: str
    to: int | float | str | bool

    def __call__(self, value: Any) -> bool:
        number = isinstance(self.to, int | float)
        measured = len(value) if number and isinstance(value, Sized) and not isinstance(value, str) else value
        return bool(_OPERATORS[self.operator](measured, self.to))


def compare(operator: str, to: int | float | str | bool) -> Comparison:
    """`compare("==", 0)`: a condition for `where`, `branch` and `loop` that can be saved.

    Raises:
        InputError: no such operator, or nothing to compare with.
    """
    given: object = operator  # from a file it may be anything, a list among it
    if not isinstance(given, str) or given not in _OPERATORS:
        raise InputError(f"no operator {operator!r}; there are {', '.join(_OPERATORS)}")
    if not isinstance(to, int | float | str):
        raise InputError(f"values are compared with numbers and words, got {type(to).__name__}")
    return Comparison(operator=operator, to=to)


Condition = Callable[[Any], bool]


def checked_condition(condition: Any, role: str) -> Condition:
    """The condition, if it is one.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(condition):
        raise InputError(f"{role} is a function of one value, or compare(...), got {condition!r}")
    chosen: Condition = condition
    return chosen
