"""Learning from the sentences that are still hard.

Once a router understands nine sentences of ten, most rows of a step teach it nothing: of a tenth of them
come four fifths of the loss. A forward pass without a graph costs a third of learning a row, so a stage may
draw many sentences and learn only those that the router finds hardest (selective backpropagation, Jiang et
al. 2019, "Accelerating Deep Learning by Focusing on the Biggest Losers"), and a few of the others, so that
none is forgotten. Rows with pictures, to look at or to make, all stay: they teach more than words. Only of
pictures that show nothing of what is said (`Sample.unseen`) the words alone are learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from superlink.router.encoding import encode
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.module import LENGTHS, JointModule

BY_CHANCE = 1 / 6  # of the chosen rows: any of those that are not among the hardest


@torch.no_grad()
def nats(module: JointModule, samples: Sequence[Sample], *, at_once: int) -> list[float]:
    """How surprised the router is by all that it should write, of each sample: -log of its probability.

    Args:
        at_once: rows of one forward pass; neighbours of about the same length share one.
    """
    config = module.router.config
    training = module.router.training
    module.router.eval()  # what adapters drop by chance would be taken for hard
    order = sorted(range(len(samples)), key=lambda index: module.row_length(samples[index]))
    found = [0.0] * len(samples)
    for start in range(0, len(order), at_once):
        own = order[start : start + at_once]
        rows = encode([samples[index].conversation for index in own], module.tokenizer, config, training=True)
        rows = rows.padded(LENGTHS, pad=config.token_ids.pad).to(module.device)
        logits = module.router(rows, only_labelled=True).logits.float()
        row, _, label = module.router.labelled(rows)
        surprise = torch.zeros(len(own), device=module.device)
        surprise.index_add_(0, row, F.cross_entropy(logits, label, reduction="none"))
        for index, value in zip(own, surprise.tolist(), strict=True):
            found[index] = value
    module.router.train(training)
    return found


def hardest(module: JointModule, samples: Sequence[Sample], share: float, *, at_once: int) -> list[Sample]:
    """Every sample with a picture to see or a target, and `share` of the others, at least one of them.

    A sixth of these, rounded up, are drawn by chance from those that are not among the hardest.

    Args:
        share: above 0, at most 1.
        at_once: rows of one forward pass.
    """
    words = [sample for sample in samples if not _stays(sample)]
    count = max(round(share * len(words)), 1)
    if count >= len(words):
        return list(samples)
    surprise = nats(module, words, at_once=at_once)
    order = sorted(range(len(words)), key=lambda index: -surprise[index])
    by_chance = math.ceil(BY_CHANCE * count) if count > 1 else 0
    hard, others = order[: count - by_chance], order[count - by_chance :]
    picked = torch.randperm(len(others))[:by_chance].tolist()  # seeded by the step
    chosen = [*hard, *(others[index] for index in picked)]
    return [*(sample for sample in samples if _stays(sample)), *(words[index] for index in chosen)]


def _stays(sample: Sample) -> bool:
    """Whether more than words can be learned from it."""
    is_seen = any(message.images for message in sample.conversation) and not sample.unseen
    return bool(sample.targets) or sample.image is not None or is_seen
