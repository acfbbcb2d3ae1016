"""From paths of the user's data to a run: what is there, whether it can be learned, and the recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from superlink.router.encoding import encode
from superlink.router.errors import DataError, InputError
from superlink.workflows.data.checking import Report, check_data, open_checked
from superlink.workflows.data.formats import DataFile
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.config import Average, Lora, Source, TrainConfig
from superlink.workflows.train.kept_links import KEPT_LINKS
from superlink.workflows.train.optimizer import ADAPTER_GLOB
from superlink.workflows.train.plan import plan_calls, routing_tokens
from superlink.workflows.train.staged import STAGED, Scale, Start, numbers_of, steps_of, warmup_of


class Fits:
    """Whether a model can be trained with a sample: its routing tokens have targets, its words have room."""

    def __init__(self, start: Start) -> None:
        self._router, self._tokenizer = start.router, start.tokenizer
        self._configs = {config.name: config for config in start.decoders}
        self._tokens = routing_tokens(start.decoders)

    def __call__(self, sample: Sample) -> None:
        """Raises DataError or InputError for a sample that cannot be used."""
        for planned in plan_calls(sample, self._configs, self._tokens):
            self._configs[planned.decoder].check(planned.call)
        encode([sample.conversation], self._tokenizer, self._router, training=True)


def checked(
    start: Start,
    files: Sequence[DataFile],
    *,
    seed: int = 0,
    over: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> list[Report]:
    """A report for every file; `over` goes over the samples that are tried and shows progress.

    Raises:
        InputError: no decoder of the model answers what a file teaches.
        DataError: no record of a file can be used.
    """
    fits = Fits(start)
    files = [replace(file, most_keypoints=start.most_keypoints) for file in files]
    return [check_data(file, start.answered, fits, seed=seed, over=over) for file in files]


def sources_of(
    start: Start, reports: Sequence[Report], *, seed: int = 0, skip_bad: bool = False
) -> tuple[Source, ...]:
    """One source a file, weighted by its size, so that an epoch sees every sample about once.

    Raises:
        DataError: there are bad records and `skip_bad` does not say to go on.
    """
    bad = [reason for report in reports for reason in report.bad]
    if bad and not skip_bad:
        raise DataError(
            f"{len(bad)} records cannot be used; the first: {bad[0]}; mend them, or leave them out with "
            f"--skip-bad"
        )
    empty = [report.data.path.name for report in reports if not report.tasks]
    if empty:
        raise DataError(f"{empty[0]}: no sample can be used; the first: {bad[0]}")
    return tuple(
        Source(
            name=f"{number}-{report.data.path.stem}",
            open=partial(
                open_checked,
                report.data,
                start.answered,
                seed=seed,
                skip_bad=skip_bad,
                left_out=report.left_out,
                # What was not among the samples that were tried is tried when it is drawn.
                fits=Fits(start) if skip_bad else None,
            ),
            weight=float(report.samples),
        )
        for number, report in enumerate(reports, start=1)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs from a recipe; None = as the recipe says."""

    steps: int | None = None
    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None
    lora: int | None = None  # rank
    trainable: tuple[str, ...] = ()
    average: float | None = None  # decay
    keep_links: float | None = None  # weight of holding links where they were
    workers: int = 1
    use_gpu: bool = False
    seed: int = 0


def config_of(
    recipe: str,
    start: Start,
    sources: Sequence[Source],
    *,
    samples: int,
    changes: Changes,
    scale: Scale | None = None,
) -> TrainConfig:
    """The run of a recipe on some data.

    Args:
        recipe: one of `STAGED`.
        samples: of one epoch.
        scale: whose numbers; None = by the width of the router.

    Raises:
        InputError: no such recipe, or changes that do not fit together.
    """
    if changes.lr is not None and not 0 < changes.lr < math.inf:
        raise InputError(f"at a learning rate of {changes.lr} nothing is learned; give --lr a number above 0")
    if changes.epochs is not None and not 0 < changes.epochs < math.inf:
        raise InputError(f"in {changes.epochs} epochs nothing is learned; give --epochs a number above 0")
    if recipe not in STAGED:
        raise InputError(f"no recipe {recipe!r}; there are {', '.join(STAGED)}")
    lora = None if changes.lora is None else Lora(r=changes.lora, alpha=2 * changes.lora)
    more = {} if lora is None or recipe != "finetune" else {"lora": lora}
    config = STAGED[recipe](start, sources, samples=samples, scale=scale, **more)
    batch = changes.batch or config.global_batch
    (stage,) = config.stages
    epochs = numbers_of(recipe, start, scale).epochs if changes.epochs is None else changes.epochs
    # A batch that the workers cannot split evenly grows to one that they can.
    batch = -(-batch // changes.workers) * changes.workers
    steps = changes.steps or steps_of(epochs, samples, batch)
    trainable = changes.trainable or stage.trainable
    weights = {} if changes.keep_links is None else {KEPT_LINKS: changes.keep_links}
    stage = replace(
        stage,
        steps=steps,
        warmup=warmup_of(steps),
        lr=stage.lr if changes.lr is None else changes.lr,
        trainable=trainable,
    )
    lora = lora or config.lora
    learned = trainable if lora is None else (*trainable, ADAPTER_GLOB)  # adapters always learn
    return replace(
        config,
        stages=(stage,),
        global_batch=batch,
        lora=lora,
        loss_weights={**config.loss_weights, **weights},
        average=config.average if changes.average is None else Average(globs=learned, decay=changes.average),
        workers=changes.workers,
        use_gpu=changes.use_gpu,
        seed=changes.seed,
        log_every=min(config.log_every, max(1, steps // 10)),
    )


def total(reports: Sequence[Report]) -> int:
    """Samples of one epoch over all files."""
    return sum(report.samples for report in reports)


def output_folder(out: Path | None, recipe: str, model: str) -> Path:
    """Where a run writes; `runs/RECIPE-MODEL` by default."""
    return out or Path("runs") / f"{recipe}-{Path(model).name}"
