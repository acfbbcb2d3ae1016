"""Count things in pictures and say where there are too few: python examples/count_and_alert.py scene.png"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from superlink import Image, StepError, Workflow, steps


def workflow(phrase: str, least: int) -> Workflow:
    """How many there are, and words of alarm where that is less than it should be."""
    wf = Workflow("count_and_alert")
    photo = wf.input("photo", Image)
    number = steps.count(phrase, retry=1)(photo)
    few = steps.compare("<", least)
    wf.output("number", number)
    wf.output("alert", steps.branch(few, then=alarm, otherwise=silence)(number))
    return wf


@steps.step
def alarm(number: int) -> str:
    return f"ALERT: only {number}"


@steps.step
def silence(number: int) -> str:
    return f"fine: {number}"


def main(paths: Sequence[str], *, model: str | Path = "tiny") -> None:
    wf = workflow("star", least=3).using(system=model)
    results = wf.batch(paths, errors="return", max_concurrency=8)
    for path, result in zip(paths, results, strict=True):
        print(
            path,
            "failed:" if isinstance(result, StepError) else result["alert"],
            getattr(result, "cause", ""),
        )


if __name__ == "__main__":
    main(sys.argv[1:] or [str(Path(__file__).with_name("scene.png"))])
