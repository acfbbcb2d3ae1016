"""A check of data before training: what is there, and which records cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from superlink.router.errors import DataError, InputError
from superlink.workflows.data.formats import DataFile, open_data
from superlink.workflows.data.samples import Dataset, Sample, naming

MOST = 500  # samples of one file that are tried out, evenly over it

Fits = Callable[[Sample], object]
"""Raises DataError or InputError for a sample that a model cannot be trained with; picklable for training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one file holds."""

    data: DataFile
    samples: int
    tried: int  # samples that were made, their pictures read and their words encoded
    tasks: Mapping[str, int]  # of those that can be used
    bad: tuple[str, ...]  # why records cannot be used; each names file and record
    left_out: frozenset[int]  # samples that cannot be used

    def lines(self, most_bad: int = 5) -> list[str]:
        """For people: one line of what is there, then the first bad records."""
        tasks = ", ".join(f"{count} {task}" for task, count in sorted(self.tasks.items())) or "none usable"
        some = "" if self.tried == self.samples else f" (of {self.tried} that were tried)"
        said = [f"{self.data.path}: {self.data.format}, {self.samples} samples: {tasks}{some}"]
        said += [f"  bad: {reason}" for reason in self.bad[:most_bad]]
        if len(self.bad) > most_bad:
            said.append(f"  and {len(self.bad) - most_bad} more")
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain data, all bad records included."""
        return {
            "path": str(self.data.path),
            "format": self.data.format,
            "samples": self.samples,
            "tried": self.tried,
            "tasks": dict(self.tasks),
            "bad": list(self.bad),
        }


def check_data(
    data: DataFile,
    answered: Collection[str],
    fits: Fits,
    *,
    seed: int = 0,
    most: int = MOST,
    over: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Report:
    """Read every record of a file and try out up to `most` samples.

    Args:
        answered: texts of the routing tokens that the model's decoders answer.
        fits: whether a model can be trained with a sample.
        seed: as in training.
        over: goes over the indices that are tried; shows progress.

    Raises:
        InputError: no decoder of the model answers what the file teaches.
        DataError: the file is not of its format, or no record can be used.
    """
    dataset = open_data(data, answered, seed=seed, skip_bad=True)
    size = len(dataset)
    indices = sorted({k * size // most for k in range(most)}) if size > most else list(range(size))
    tasks: Counter[str] = Counter()
    bad = list(dataset.skipped)
    left_out = set()
    for index in over(indices):
        try:
            sample = dataset[index]
            with naming(sample.source):
                fits(sample)
        except (DataError, InputError) as error:
            bad.append(str(error))
            left_out.add(index)
        else:
            tasks[sample.task] += 1
    return Report(
        data=data,
        samples=size,
        tried=len(indices),
        tasks=dict(tasks),
        bad=tuple(bad),
        left_out=frozenset(left_out),
    )


class SkipsBad:
    """A dataset in which a sample that cannot be used gives way to the next one that can.

    The same index always gives the same sample, as long as the files stay as they are.

    Args:
        left_out: indices that are known to be of no use.
        fits: tries every other sample when it is first asked for; None = reading it says enough.
    """

    def __init__(self, dataset: Dataset, left_out: Collection[int] = (), *, fits: Fits | None = None) -> None:
        self._dataset = dataset
        self._left_out = frozenset(left_out)
        self._fits = fits
        self._fine: set[int] = set()  # trying costs as much as encoding, and every epoch asks again
        self._unfit: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        size = len(self._dataset)
        if not 0 <= index < size:
            raise IndexError(f"sample {index} of {size}")
        last: DataError | InputError | None = None
        for step in range(size):
            place = (index + step) % size
            if place in self._left_out:
                continue
            try:
                return self._tried(place)
            except (DataError, InputError) as error:
                last = error
        raise DataError(f"none of {size} samples can be used; the last: {last}")

    def _tried(self, place: int) -> Sample:
        if place in self._unfit:
            raise DataError(self._unfit[place])
        sample = self._dataset[place]
        if self._fits is not None and place not in self._fine:
            try:
                with naming(sample.source):
                    self._fits(sample)
            except (DataError, InputError) as error:
                self._unfit[place] = str(error)
                raise
            self._fine.add(place)
        return sample


def open_checked(
    data: DataFile,
    answered: tuple[str, ...],
    *,
    seed: int = 0,
    skip_bad: bool = False,
    left_out: frozenset[int] = frozenset(),
    fits: Fits | None = None,
) -> Dataset:
    """The samples of a file for training; with `skip_bad`, past those that cannot be used.

    Args:
        left_out: samples that the check found to be of no use.
        fits: tries those that the check did not.
    """
    dataset = open_data(data, answered, seed=seed, skip_bad=skip_bad)
    return SkipsBad(dataset, left_out, fits=fits) if skip_bad else dataset
