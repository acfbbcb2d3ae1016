"""What an agent or a plan may spend on a system: calls, seconds, pixels.

A limit is looked at before a call, so nothing starts that is not paid for; seconds and made pictures
are known afterwards, so the last call may go over.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from numbers import Real

from superlink.router.errors import InputError, SuperlinkError


class BudgetError(SuperlinkError):
    """The next call would go over the budget; it was not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits; None = none."""

    calls: int | None = None  # questions to the system
    seconds: float | None = None  # that calls take, added up
    pixels: int | None = None  # of the pictures that calls look at, and of those that they make

    def __post_init__(self) -> None:
        for name in ("calls", "seconds", "pixels"):
            limit = getattr(self, name)
            number = isinstance(limit, Real) and not isinstance(limit, bool)
            # Compared, not `isfinite`: that has no answer for a whole number beyond the floats.
            if limit is not None and not (number and 0 < limit < math.inf):
                raise InputError(f"a budget of {name} is a number above 0 or None, got {limit!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What calls have cost so far."""

    calls: int = 0
    seconds: float = 0.0
    pixels: int = 0


class Meter:
    """Counts calls against a budget. Safe to use from many threads."""

    def __init__(self, budget: Budget | None = None) -> None:
        if budget is not None and not isinstance(budget, Budget):
            raise InputError(f"a budget is Budget(calls=..., ...), got {type(budget).__name__}")
        self.budget = budget or Budget()
        self._spent = Spent()
        self._lock = threading.Lock()

    @property
    def spent(self) -> Spent:
        return self._spent

    def start(self, pixels: int) -> float | None:
        """Book a call that looks at so many pixels.

        Returns:
            The seconds that it may take; None = any.

        Raises:
            BudgetError: it would go over; nothing is booked.
        """
        budget = self.budget
        with self._lock:
            spent = self._spent
            if budget.calls is not None and spent.calls + 1 > budget.calls:
                raise BudgetError(f"the budget of {budget.calls} calls is used up")
            if budget.pixels is not None and spent.pixels + pixels > budget.pixels:
                raise BudgetError(
                    f"a picture of {pixels:,} pixels does not fit into what is left of a budget of "
                    f"{budget.pixels:,}: {spent.pixels:,} are spent"
                )
            # What is left is waited for, and no wait is longer than the platform's.
            most = None if budget.seconds is None else min(budget.seconds, threading.TIMEOUT_MAX)
            left = None if most is None else most - spent.seconds
            if left is not None and left <= 0:
                raise BudgetError(
                    f"the budget of {budget.seconds} seconds is used up: calls took {spent.seconds:.2f}"
                )
            self._spent = Spent(calls=spent.calls + 1, seconds=spent.seconds, pixels=spent.pixels + pixels)
        return left

    def give_back(self, pixels: int) -> None:
        """Take a booked call out again: it was never made."""
        with self._lock:
            spent = self._spent
            self._spent = Spent(calls=spent.calls - 1, seconds=spent.seconds, pixels=spent.pixels - pixels)

    def finish(self, seconds: float, pixels: int) -> None:
        """Book what a call took, and the pixels that it made."""
        with self._lock:
            spent = self._spent
            self._spent = Spent(
                calls=spent.calls, seconds=spent.seconds + seconds, pixels=spent.pixels + pixels
            )
