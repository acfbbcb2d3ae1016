"""`superlink eval shapes`: every task of the shapes world, free-running.

Everything goes through the whole loop: an instruction that training never used, the reply that
the router writes by itself, the decoders on its links. A wrong phrase finds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from superlink.workflows.data.samples import Dataset
from superlink.workflows.data.shapes_samples import ShapesMix, ShapesSamples
from superlink.workflows.eval import finding, scenes
from superlink.workflows.eval.answering import Answer, Progress
from superlink.workflows.eval.foreign import check_programs
from superlink.workflows.eval.heldout import FIRST_STREAM, HeldoutSamples
from superlink.workflows.eval.matching import Tally, tally
from superlink.workflows.eval.poses import PCK_SHARE, pck
from superlink.workflows.eval.report import EvalReport, Metric
from superlink.workflows.eval.routing import routing
from superlink.workflows.eval.tasks import TASKS, measured, writes_everything
from superlink.workflows.eval.wordings import FINDING_TOKENS, SpokenSamples, wordings

FINDING = ("routing", "wordings", "boxes", "masks", "grounding", "foreign")
FOREIGN = ("foreign", "foreign-people")  # drawn by other programs, which must be there
PARTS = (*FINDING, *FOREIGN[1:], *TASKS)
# What a system that writes every token is asked in the part "routing"; another one, `ShapesMix()`. Left
# out are tasks whose phrases follow from what is seen (captions with boxes, examples, later rounds about a
# scene): a wrong phrase there is no wrong routing. `several` is left out although its routing follows from
# the words: a weight for it would change what every seed draws of the other tasks, and numbers of routing are
# compared with those of earlier models.
EVERY_TASK = ShapesMix(
    detect=0.13,
    ground=0.08,
    segment=0.1,
    mixed=0.06,
    nothing=0.03,
    partial=0.04,
    chat=0.06,
    region=0.03,
    dialogue=0.06,
    vqa=0.08,
    caption=0.02,
    region_caption=0.02,
    recognition=0.02,
    pose=0.06,
    generate=0.06,
    edit=0.06,
    compose=0.05,
    interactive=0.04,
)


def evaluate(
    answer: Answer,
    *,
    model: str = "",
    count: int = 200,
    seed: int = 0,
    parts: tuple[str, ...] = FINDING,
    tokens: Collection[str] = FINDING_TOKENS,
    samples: Mapping[str, Dataset] | None = None,
    batch: int = 8,
    progress: Callable[[str, int], None] | None = None,
) -> EvalReport:
    """Measure one system.

    Args:
        answer: what is evaluated; `answering.answers_of(system)`.
        model: its name, for the report.
        count: questions of each part; routing gets twice as many, wordings four times.
        seed: other seeds ask other questions about other scenes.
        parts: what to measure, of `PARTS`.
        tokens: routing tokens that the system writes; nothing asks for others.
        samples: what parts of `TASKS` ask, by part; by default `HeldoutSamples`.
        batch: questions of one generation.
        progress: called with the part and the number of questions just answered.

    Raises:
        InputError: one of `FOREIGN` without the programs that draw its pictures, or samples that
            lack what their part is scored by.
    """
    if not {*FOREIGN}.isdisjoint(parts):
        check_programs()
    start = time.monotonic()
    metrics: list[Metric] = []
    for part in parts:
        tell: Progress | None = None
        if progress is not None:
            tell = _teller(progress, part)
        if part in TASKS:
            given = (samples or {}).get(part)
            asked = HeldoutSamples(part, count, seed=seed) if given is None else given
            metrics += measured(answer, part, asked, batch=batch, progress=tell)
        elif part in _ROUTED:
            metrics += _ROUTED[part](answer, count, seed, tokens, batch, tell)
        else:
            metrics += _MEASURES[part](answer, count, seed, batch, tell)
    return EvalReport(
        task="shapes", model=model, seed=seed, seconds=time.monotonic() - start, metrics=tuple(metrics)
    )


def questions_of(part: str, count: int, tokens: Collection[str] = FINDING_TOKENS) -> int:
    """How many questions a part asks at most of a system that writes these tokens."""
    if part == "wordings":
        return min(4 * count, len(wordings(tokens)))
    return 2 * count if part in ("routing", "boxes") else count


def _teller(progress: Callable[[str, int], None], part: str) -> Progress:
    return lambda done: progress(part, done)


def _routing(
    answer: Answer, count: int, seed: int, tokens: Collection[str], batch: int, progress: Progress | None
) -> list[Metric]:
    mix = EVERY_TASK if writes_everything(tokens) else ShapesMix()
    length = questions_of("routing", count)
    samples = ShapesSamples(length, seed=FIRST_STREAM + seed, split="heldout", mix=mix)
    return routing(answer, samples, batch=batch, progress=progress)


def _wordings(
    answer: Answer, count: int, seed: int, tokens: Collection[str], batch: int, progress: Progress | None
) -> list[Metric]:
    samples = SpokenSamples(questions_of("wordings", count, tokens), seed=seed, tokens=tokens)
    found = routing(answer, samples, batch=batch, progress=progress)
    return [replace(metric, group="wordings") for metric in found if not metric.name.startswith("exact, ")]


def _boxes(answer: Answer, count: int, seed: int, batch: int, progress: Progress | None) -> list[Metric]:
    found = finding.boxes(answer, scenes.detection(count, seed), batch, progress)
    plain = finding.boxes(answer, scenes.detection(count, seed, plainly=True), batch, progress)
    return found + [replace(metric, name=f"{metric.name}, plainly asked") for metric in plain]


def _masks(answer: Answer, count: int, seed: int, batch: int, progress: Progress | None) -> list[Metric]:
    return finding.masks(answer, scenes.segmentation(count, seed), batch, progress)


def _grounding(answer: Answer, count: int, seed: int, batch: int, progress: Progress | None) -> list[Metric]:
    return finding.grounding(answer, scenes.grounding(count, seed), batch, progress)


def _foreign(answer: Answer, count: int, seed: int, batch: int, progress: Progress | None) -> list[Metric]:
    asked = scenes.foreign(count, seed)
    pairs = finding.pairs(answer, asked, finding.boxes_of, batch, progress)
    total = sum((tally(found, truth) for truth, found in pairs), Tally())
    return [
        Metric(group="foreign pictures", name="F1 at IoU 0.5", value=total.f1, count=total.truths),
        Metric(group="foreign pictures", name="precision", value=total.precision, count=total.found),
        Metric(group="foreign pictures", name="recall", value=total.recall, count=total.truths),
    ]


def _foreign_people(
    answer: Answer, count: int, seed: int, batch: int, progress: Progress | None
) -> list[Metric]:
    asked = scenes.foreign_people(count, seed)
    pairs = list(finding.pairs(answer, asked, finding.keypoints_of, batch, progress))
    total = sum((tally(found, truth) for truth, found in pairs), Tally())
    right, labelled = pck([truth for truth, _ in pairs], [found for _, found in pairs])
    return [
        Metric(group="foreign people", name="found at IoU 0.5", value=total.recall, count=total.truths),
        Metric(group="foreign people", name="precision", value=total.precision, count=total.found),
        Metric(group="foreign people", name=f"PCK@{PCK_SHARE}", value=right, count=labelled),
    ]


# Parts that ask all that a system has tokens for.
_ROUTED: dict[str, Callable[[Answer, int, int, Collection[str], int, Progress | None], list[Metric]]] = {
    "routing": _routing,
    "wordings": _wordings,
}
_MEASURES: dict[str, Callable[[Answer, int, int, int, Progress | None], list[Metric]]] = {
    "boxes": _boxes,
    "masks": _masks,
    "grounding": _grounding,
    "foreign": _foreign,
    "foreign-people": _foreign_people,
}
