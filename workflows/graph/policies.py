"""Small policies of single steps: how often to try, how long to wait, what to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from typing_extensions import TypedDict

from superlink.router.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Further attempts after a failure. What was refused as input is not tried again: it stays the same."""

    times: int = 2  # attempts after the first
    wait: float = 0.0  # seconds before the second attempt
    backoff: float = 2.0  # every further wait is so much longer
    longest: float = 30.0  # wait in seconds

    def __post_init__(self) -> None:
        times: object = self.times
        if not isinstance(times, int) or isinstance(times, bool) or times < 0:
            raise InputError(f"retry is a number of further attempts from 0, got {times!r}")
        for name in ("wait", "backoff", "longest"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InputError(f"{name} of a retry is a number from 0, got {value!r}")

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th attempt, from 1."""
        if not self.wait:
            return 0.0
        try:
            return min(self.wait * self.backoff ** (attempt - 1), self.longest)
        except OverflowError:  # longer than any number
            return self.longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """How one step is run."""

    retry: Retry = Retry(times=0)
    timeout: float | None = None  # seconds of one attempt
    cache: bool = True  # use the workflow's cache, if it has one
    seed: int | None = None  # in place of the run's own


class PolicyOptions(TypedDict, total=False):
    """What every step takes besides its own parameters."""

    name: str  # in messages, files and results
    retry: int | Retry
    timeout: float | None
    cache: bool
    seed: int | None


def policies_with(base: Policies, options: PolicyOptions) -> Policies:
    """`base` with what was given.

    Raises:
        InputError: a value cannot be used.
    """
    for option in options:
        if option not in PolicyOptions.__annotations__:
            known = ", ".join(PolicyOptions.__annotations__)
            raise InputError(f"a step has no option {option!r}; every step takes {known}")
    name: object = options.get("name", "")
    if not isinstance(name, str):
        raise InputError(f"the name of a step is words, got {name!r}")
    if "retry" in options:
        given = options["retry"]
        base = replace(base, retry=given if isinstance(given, Retry) else Retry(times=given))
    if "timeout" in options:
        timeout = options["timeout"]
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (number and math.isfinite(timeout) and timeout > 0):
            raise InputError(f"the timeout is a number of seconds above 0, got {timeout!r}")
        base = replace(base, timeout=timeout)
    if "cache" in options:
        cache: object = options["cache"]
        if not isinstance(cache, bool):
            raise InputError(f"cache is true or false, got {cache!r}")
        base = replace(base, cache=cache)
    if "seed" in options:
        seed = options["seed"]
        base = replace(base, seed=None if seed is None else checked_seed(seed))
    return base


def checked_seed(seed: object) -> int:
    """`seed` as given, when it is one.

    Raises:
        InputError: no whole number of at most 64 bits.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not -(2**63) <= seed < 2**64:
        raise InputError(f"the seed is a whole number of at most 64 bits, got {seed!r}")
    return seed


def checked_count(number: object, what: str) -> int:
    """`number` as given, when it is a whole number from 1.

    Raises:
        InputError: it is not.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InputError(f"{what} is a whole number from 1, got {number!r}")
    return number
