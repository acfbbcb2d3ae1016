"""Which samples a step sees: a pure function of seed, stage and step.

Every worker knows the whole global batch and takes every world-th sample of it, so one worker and two
see the same batches, and a resumed run goes on with the very next sample. There is no state to save.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from superlink.router.errors import DataError
from superlink.workflows.data.samples import Dataset, Sample
from superlink.workflows.train.config import Source

PATTERN = 512  # length of the repeated pattern that spreads sources over a mixture
SHUFFLED = 1 << 20  # longest source that is shuffled epoch by epoch; longer ones are drawn at random


class Mixture:
    """An endless stream of samples from weighted sources, with random access.

    Each source is read epoch by epoch, reshuffled every time, so a small one is seen evenly.
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.names = tuple(source.name for source in sources)
        self.datasets: tuple[Dataset, ...] = tuple(source.open() for source in sources)
        for name, dataset in zip(self.names, self.datasets, strict=True):
            if len(dataset) == 0:
                raise DataError(f"source {name!r} has no samples")
        self.seed = seed
        self.pattern = _spread([source.weight for source in sources], seed)
        taken = np.eye(len(sources), dtype=np.int64)[self.pattern]
        self.before: NDArray[np.int64] = np.cumsum(taken, axis=0) - taken  # (PATTERN, sources)
        self.counts = taken.sum(axis=0)

    def locate(self, position: int) -> tuple[int, int]:
        """Source and index within it of one position of the stream."""
        lap, offset = divmod(position, len(self.pattern))
        source = int(self.pattern[offset])
        nth = lap * int(self.counts[source]) + int(self.before[offset, source])
        length = len(self.datasets[source])
        if length > SHUFFLED:
            return source, int(np.random.default_rng((self.seed, 1, source, nth)).integers(length))
        epoch, within = divmod(nth, length)
        return source, int(_shuffled(self.seed, source, epoch, length)[within])

    def __getitem__(self, position: int) -> Sample:
        source, index = self.locate(position)
        return self.datasets[source][index]


def _spread(weights: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Which source each position of a lap reads: (about PATTERN,) indices, evenly spread.

    Any stretch holds about its share of every source, and two neighbours read the same one: steps cost
    alike, and so do the halves of two workers, who would wait for each other otherwise.
    """
    edges = np.rint(np.cumsum(weights) / sum(weights) * (PATTERN // 2)).astype(np.int64)
    counts = np.maximum(np.diff(edges, prepend=0), 1)
    shifts = np.random.default_rng((seed, 0)).random(len(counts))
    places = np.concatenate([(np.arange(n) + shift) / n for n, shift in zip(counts, shifts, strict=True)])
    return np.repeat(np.repeat(np.arange(len(counts)), counts)[np.argsort(places, kind="stable")], 2)


@lru_cache(maxsize=32)
def _shuffled(seed: int, source: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, 2, source, epoch)).permutation(length)


def without_pictures(sample: Sample) -> Sample:
    """The same words, for learning to write before learning to see."""
    messages = tuple(replace(message, images=(), prompts=()) for message in sample.conversation)
    return replace(sample, conversation=messages, image=None, targets=(), shown=None)


class StepBatches(torch.utils.data.Dataset[list[Sample]]):
    """Item `step` = the samples of that step of the stage that fall to this worker."""

    def __init__(
        self, mixture: Mixture, *, global_batch: int, rank: int, world: int, text_only: bool = False
    ) -> None:
        self.mixture = mixture
        self.global_batch = global_batch
        self.rank, self.world = rank, world
        self.text_only = text_only

    def __getitem__(self, step: int) -> list[Sample]:
        first = step * self.global_batch
        positions = range(first + self.rank, first + self.global_batch, self.world)
        samples = [self.mixture[position] for position in positions]
        if self.text_only:
            samples = [without_pictures(sample) for sample in samples]
        # Rows of one micro-batch are padded to the longest: neighbours should be alike.
        return sorted(samples, key=_row_length)


def _row_length(sample: Sample) -> tuple[int, int]:
    """Pictures, then characters: close to the length of the encoded row."""
    messages = sample.conversation
    return -sum(len(message.images) for message in messages), -sum(len(message.text) for message in messages)


def _as_is(samples: list[Sample]) -> list[Sample]:
    return samples


def _deaf(worker: int) -> None:
    """Ctrl-C rings in every process of a terminal; the step that it lets finish needs its samples."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(dataset: StepBatches, steps: range, *, prefetch: int) -> Iterator[list[Sample]]:
    """The batches of some steps, in order, made ahead by `prefetch` processes."""
    loader: DataLoader[list[Sample]] = DataLoader(
        dataset,
        batch_size=None,
        sampler=list(steps),
        num_workers=prefetch,
        prefetch_factor=2 if prefetch else None,
        collate_fn=_as_is,
        worker_init_fn=_deaf,
        multiprocessing_context="forkserver" if prefetch else None,
        # A generator of its own: the loader would draw from the one that dropout uses.
        generator=torch.Generator(),
    )
    return iter(loader)
