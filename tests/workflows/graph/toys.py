"""Steps for tests, in a module from which saved workflows can import them."""

from __future__ import annotations

import threading
from typing import Any

from superlink import Image, steps

CALLS: list[str] = []
_LOCK = threading.Lock()


def note(name: str) -> None:
    with _LOCK:
        CALLS.append(name)


@steps.step
def inc(x: int) -> int:
    note("inc")
    return x + 1


@steps.step
def double(x: int) -> int:
    note("double")
    return 2 * x


@steps.step
def add(a: int, b: int) -> int:
    note("add")
    return a + b


@steps.step
def upto(n: int) -> list[int]:
    return list(range(n))


@steps.step
def total(values: list[int]) -> int:
    return sum(values)


@steps.step
def shout(text: str) -> str:
    return text.upper()


@steps.step
def wrong(x: int) -> int:
    return f"{x}"  # type: ignore[return-value]  # what the test is about


@steps.step
def refuse_three(x: int) -> int:
    note(f"refuse_three {x}")
    if x == 3:
        raise KeyError("three is poison")
    return x


@steps.step
def brightness(image: Image) -> float:
    return float(image.pixels.mean())


def is_even(x: Any) -> bool:
    return bool(x % 2 == 0)
