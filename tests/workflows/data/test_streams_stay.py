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
    "words": (lambda: TextSamples(200), "e1fe96e8ac9a788e92fd90f3b007a94c59d60442954f43a00c90fc555a5e4320"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "767f905b6ebf1a4d6f6e2523916b30c7cabf229eb0cb73befa8ac79efa9d11c4",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "03e3b725e2b9a9e3421bd5dd197152215516f81c7a6790fa2b33cf0f91956b71",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "c09c51fc3a48b7096b5e0c7e5a5a1010ac8a8e8c24f7a2d364a59a2ea8e92eb5",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "3fe5d929dd6d199be1f5f4a4ebf2f493e4e321032975f5d1971f1c2cf2582307",
    ),
}
CORPUS = "612df206daf115887e7ab8922de6f9380d0aff76ac8cf18f10d8244a5877628b"


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
