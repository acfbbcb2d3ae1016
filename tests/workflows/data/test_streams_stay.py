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
    "words": (lambda: TextSamples(200), "83381d14daa8086b91c156b9c7bcae0e0d58b59c9110174da2cfce45bc0c2ae8"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "d2a6517955243c17d3379c3b34581284410a7cd4cdc45b0c8b6759f984ce3249",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "c963b173bd3728bdf6aabcffd6b66609bbd6e9e82a46448da00d335031cba88b",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "4320435cef5aa057340b40da6a8a53d07f0d4314150b1a3fd7a8727c656c1676",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "87add15385792d794f41e6c6ac59401eba7b7f98edf0b22b9925692c306ef55c",
    ),
}
CORPUS = "359484e4b6cecc50926c17d01a61e58e15a3cf38e3b43c8ad89c1f63e2a4c25f"


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
