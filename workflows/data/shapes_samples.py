"""Samples of the shapes world: a conversation, a picture, and what its decoders should answer.

    ShapesSamples(1000, seed=3)[17]    # with a rendered scene and targets
    TextSamples(1000, seed=3)[17]      # words only, thousands a second

The same (seed, index, split) always gives the same sample.
"""

from __future__ import annotations

from random import Random

from superlink.router.messages import Message
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.mix import ShapesMix, any_instruction, corpus, reply
from superlink.workflows.data.instructions.vocabulary import Vocabulary
from superlink.workflows.data.samples import Sample

__all__ = ["ShapesMix", "TextSamples", "corpus"]


class TextSamples:
    """Conversations without pictures: routing is learned from words alone.

    Args:
        length: number of samples.
        seed: of the stream.
        split: "train" draws from the templates for training, "heldout" from the others only.
        open_share: share of instructions about things outside the shapes world.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        split: Split = "train",
        mix: ShapesMix | None = None,
        open_share: float = 0.3,
    ) -> None:
        self._length = length
        self._seed = seed
        self._split: Split = split
        self._mix = mix or ShapesMix()
        self._source = Vocabulary(open_share)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        rng = _stream("text", self._seed, self._split, index, self._length)
        found = any_instruction(rng, self._mix, self._split, self._source)
        return Sample(
            conversation=(
                Message(role="user", text=found.text),
                Message(role="assistant", text=reply(found)),
            ),
            image=None,
            targets=(),
            task=found.task,
            source=f"text:{self._split}:{self._seed}:{index}",
        )


def _stream(kind: str, seed: int, split: Split, index: int, length: int) -> Random:
    if not 0 <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return Random(f"{kind}:{seed}:{split}:{index}")
