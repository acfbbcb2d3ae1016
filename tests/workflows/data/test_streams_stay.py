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
    "words": (lambda: TextSamples(200), "2fe1e4ea77d1bea45866f127da42ec6e72cf09e2b2ca13bcdfc98a9f4c16ce00"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "9fb011d05696c1197c8a56ee10d916ae7c30fbe214af0a621dd246f74e9bfa59",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "014f6e9f1e3cb0d18278f501d0a8a3ca6ecd04a6e6d0a1392fb5cf3ec0e6c25f",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "53b064b2b87f5c295751d11dd30781dd7350e8f6795a36a0aa2f3cb8a45911f3",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "a35c894976965575f20a1312931dccc9f856a72553a3570ff5d6f41e2fb7ba72",
    ),
}
CORPUS = "fd45ff9b76f21fe0d548a085650b344fa497d23c82cb35456508f7c9a2ca7f03"


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
