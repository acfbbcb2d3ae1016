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
    "words": (lambda: TextSamples(200), "26d6a85b64a380ab18fe795168aa65c39814960e80b82e4c30725457a4ac2eb0"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "b15fb60b9fc6ddd3c6aac83932a4be8417c7a7fab52816819760961789cac869",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "760ee7a8905ada2039211ed5104a5351264d951e115cc224ed55f08af23c4271",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "c3cdc618b98d9155e54182bf3d0b1552c74f5b7ba9cbb274f4ea394e5879c604",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "98889308812337f964f73d1bf003f96faa52f3ec93603f81861e0d3002a78acd",
    ),
}
CORPUS = "fac273aaec4c3546a92fd059e7a724269b9cc46ba72d12cea99544d0697c415c"


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
