"""Teacher-forced losses on held-out samples: a cheap sign of health while training.

How well a system answers is measured free-running, by the evaluation commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from superlink.workflows.data.samples import Sample
from superlink.workflows.train.module import JointModule


def validation_losses(
    module: JointModule, samples: Sequence[Sample], *, batch: int, loss_weights: Mapping[str, float]
) -> dict[str, float]:
    """Every loss term over all samples, and their weighted "total".

    Leaves the module in the mode it was in, and torch's random state as it was.
    """
    sums: dict[str, float] = {}
    with torch.random.fork_rng(), _evaluating(module):
        torch.manual_seed(0)
        chunks = [samples[start : start + batch] for start in range(0, len(samples), batch)]
        batches = [module.prepare(chunk) for chunk in chunks]
        counts: dict[str, float] = {}
        for prepared in batches:
            for name, count in prepared.counts.items():
                counts[name] = counts.get(name, 0.0) + count
        counts = {name: max(count, 1.0) for name, count in counts.items()}
        for prepared in batches:
            terms = module(prepared, counts)
            sums["total"] = sums.get("total", 0.0) + float(module.total(terms, loss_weights))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value)
    return sums


@contextmanager
def _evaluating(module: JointModule) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)
