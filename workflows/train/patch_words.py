"""An auxiliary loss: visual tokens should name what is to be seen at their place.

Answers in words say little about single places of a picture, so a young vision tower learns slowly from
them. Here every visual token of a picture, normed as the language model norms what it writes, must name the
words of the things in its square through the router's own output layer. It needs pictures whose things are
known (`Sample.shown`); its weight is 0 unless a run asks for it.

Axes: P pictures, n visual tokens of a tile, N things of a picture, D router width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superlink.router.config import RouterConfig
from superlink.router.errors import DataError
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.data.samples import Sample

PATCH_WORDS = "patch_words"

NOTHING = "nothing"  # what an empty square shows
_ENOUGH = 0.2  # of a square, for its token to speak of what is there
_EMPTY_EVERY = 4  # most squares of a picture are empty: one of so many counts


@dataclass(frozen=True, slots=True, eq=False)
class PatchGoal:
    """What the visual tokens of one picture should say."""

    words: tuple[tuple[int, ...], ...]  # for each thing the ids of its name; the last ones say "nothing"
    places: Tensor  # (k,) int64 visual tokens that count, of the picture's last tile
    shares: Tensor  # (k, N + 1) how much of what they should say is each thing's name; rows sum to 1


def patch_goal(sample: Sample, tokenizer: RouterTokenizer, config: RouterConfig) -> PatchGoal | None:
    """What is where in the last picture of a sample; None where that is not known.

    Raises:
        DataError: there is no picture, or its masks are of another size.
    """
    shown = sample.shown
    if shown is None:
        return None
    covered = squares(sample, config).flatten(1).T  # (n, N)
    total = covered.sum(1)
    full = total >= _ENOUGH
    empty = total == 0
    empty &= torch.arange(len(total)) % _EMPTY_EVERY == sum(sample.source.encode()) % _EMPTY_EVERY
    shares = torch.cat([covered / total.clamp(min=_ENOUGH)[:, None], empty[:, None].float()], dim=1)
    places = (full | empty).nonzero()[:, 0]
    words = (*name_words(sample, tokenizer), _words(NOTHING, tokenizer))
    return PatchGoal(words, places, shares[places])


def name_words(sample: Sample, tokenizer: RouterTokenizer) -> tuple[tuple[int, ...], ...]:
    """The words of the name of each thing that a sample shows, every one once."""
    assert sample.shown is not None
    names = sample.shown.names
    return tuple(_words(names[label], tokenizer) for label in sample.shown.labels)


def _words(name: str, tokenizer: RouterTokenizer) -> tuple[int, ...]:
    # With a space in front, as words stand inside a sentence.
    return tuple(dict.fromkeys(tokenizer.encode(f" {name}")))


def squares(sample: Sample, config: RouterConfig) -> Tensor:
    """(N, S, S) how much of each square of the last picture's last tile each thing that it shows covers.

    Raises:
        DataError: there is no picture, or its masks are of another size.
    """
    shown = sample.shown
    assert shown is not None
    pictures = [image for message in sample.conversation for image in message.images]
    if not pictures or shown.size != pictures[-1].shape[:2]:
        raise DataError(
            f"sample {sample.source!r} tells what a picture of {shown.size[0]} x {shown.size[1]} shows, "
            f"its last one is {' x '.join(map(str, pictures[-1].shape[:2])) if pictures else 'missing'}"
        )
    side = math.isqrt(config.tokens_per_tile)
    masks = torch.from_numpy(shown.masks).float()
    if config.tiling == "pad":
        masks = _squared(masks)
    return F.adaptive_avg_pool2d(masks, side) if len(masks) else masks.new_zeros(0, side, side)


def patch_words_loss(
    tokens: Tensor, goals: Sequence[PatchGoal], norm: nn.Module, head: nn.Module
) -> tuple[Tensor, int]:
    """Cross-entropy summed over the visual tokens that count; and their number.

    Args:
        tokens: (P, n, D) visual tokens of the last tile of each picture.
        goals: of each picture.
        norm: (…, D) -> (…, D).
        head: (…, D) -> (…, V).
    """
    chosen = torch.cat([row[goal.places.to(row.device)] for row, goal in zip(tokens, goals, strict=True)])
    logits: Tensor = head(norm(chosen)).float()
    wanted = torch.cat([_wanted(goal, logits.shape[-1]) for goal in goals]).to(logits.device)
    return -(wanted * logits.log_softmax(-1)).sum(), len(chosen)


def _wanted(goal: PatchGoal, vocabulary: int) -> Tensor:
    """(k, V) the words of every place, in equal parts of each name."""
    named = torch.zeros(len(goal.words), vocabulary)
    for index, ids in enumerate(goal.words):
        named[index, list(ids)] = 1 / len(ids)
    return goal.shares @ named


def _squared(masks: Tensor) -> Tensor:
    """(N, H, W) in the middle of (N, S, S), as a picture is in its tile."""
    height, width = masks.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return F.pad(masks, (left, side - width - left, top, side - height - top))
