"""Streams of samples that models were trained on: new tasks must not move them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from superlink.decoders.artifacts import Boxes, Masks
from superlink.workflows.data.samples import Dataset, Sample
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ShapesSamples, TextSamples, corpus
from superlink.workflows.train.recipes import SEEING, SPEAKING

SMALL = SceneConfig(height=128, width=128)
# SHA-256 of the first 200 samples, recorded with the wordings that `tiny` learned.
RECORDED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "words": (lambda: TextSamples(200), "19969498489af4b8c055e8b6386d5e393f530d596d836f85f27f19bc967eea55"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "2304aa48400e6b1585cc1541e25f14830077097a98e14c5f0b8bf7199e253749",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "98f4b51be4a3286ad5ba0cde17b441bd22dfc2e1a25e6fdd2b2dea640314b843",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "a83e7b9adebc3d1a544a0e284d6e41a39dc72d9d38178eb80925c19d6ef68f8c",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "60ef124c90c5c52304390ad80228cd7ef903d411a685ac41b73695656ba86fd8",
    ),
}
CORPUS = "b0c48d4f6c62e2c8e2276efcc5e499408452dbe7fb8f5d65ecdb396168165b69"


def told(sample: Sample) -> str:
    """What a sample says and what it should give; the pixels follow from the scene, which its boxes show."""
    parts = [sample.task, sample.source, str(None if sample.image is None else sample.image.shape)]
    for message in sample.conversation:
        parts += [message.role, message.text, *(type(prompt).__name__ for prompt in message.prompts)]
    for target in sample.targets:
        assert isinstance(target.artifact, Boxes | Masks)
        parts += [target.token, type(target.artifact).__name__, *target.artifact.names]
        parts += [str(target.artifact.labels.tolist()), str(target.artifact.xyxy.tolist())]
    return "\x1f".join(parts)


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\x1e".join(texts).encode()).hexdigest()


@pytest.mark.parametrize("name", RECORDED)
def test_the_first_200_samples_of_a_stream_are_as_they_were(name: str) -> None:
    make, recorded = RECORDED[name]
    samples = make()
    assert digest([told(samples[index]) for index in range(200)]) == recorded


def test_the_first_400_texts_for_a_tokenizer_are_as_they_were() -> None:
    assert digest([*corpus(200, seed=1), *corpus(200, seed=1, fold_case=True)]) == CORPUS
