"""An auxiliary loss: a link should say what it stands for, before any decoder has seen it.

The language loss asks nothing of link queries, and a fresh decoder cannot tell useful links from
useless ones, so both wait for each other. Here the embeddings of a link, all but the last (which
writes the next word), must name the words of its phrase through the router's own output layer.
It learns from words alone, and its weight is 0 unless a run asks for it.

Axes: N links of a batch, D router width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from superlink.router.batch import RowLink
from superlink.router.phrases import parse_reply
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.data.samples import Sample

LINK_WORDS = "link_words"

Words = tuple[tuple[int, ...], ...]  # for every link of a row, the ids of its phrase


def words_of(sample: Sample, tokens: Sequence[str], tokenizer: RouterTokenizer) -> Words:
    """Ids of the phrase of every routing token that the assistant wrote, in reading order."""
    phrases = [
        phrase
        for message in sample.conversation
        if message.role == "assistant"
        for phrase in parse_reply(message.text, tuple(tokens)).phrases
    ]
    # With a space in front, as words stand inside a sentence.
    return tuple(tuple(dict.fromkeys(tokenizer.encode(f" {phrase}"))) for phrase in phrases)


def link_words_loss(
    links: Sequence[Sequence[RowLink]], words: Sequence[Words], head: nn.Module
) -> tuple[Tensor, int] | None:
    """Mean cross-entropy of the words of each link's phrase, summed over links; and their number.

    Args:
        links: of each row. Rows may have lost their oldest rounds: the last ones count.
        words: of each row.
        head: (…, D) -> (…, V).

    Returns:
        None where no link stands for any words.
    """
    means: list[Tensor] = []
    wanted: list[tuple[int, ...]] = []
    for row, names in zip(links, words, strict=True):
        for link, ids in zip(row, names[len(names) - len(row) :], strict=True):
            if ids:
                embeddings = link.embeddings
                means.append((embeddings[:-1] if len(embeddings) > 1 else embeddings).mean(0))
                wanted.append(ids)
    if not means:
        return None
    logits: Tensor = head(torch.stack(means)).float()
    goal = torch.zeros_like(logits)
    for index, ids in enumerate(wanted):
        goal[index, list(ids)] = 1 / len(ids)
    return -(goal * logits.log_softmax(-1)).sum(), len(means)
