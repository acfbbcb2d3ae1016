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
    "words": (lambda: TextSamples(200), "1443aefa5280c67fbf834a5bde523c7bbc5e375b993ce286ee60eb15d18ce975"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "563fcb4812a360dd0e6a282f13d65969c6c3f2a69bf149c06b4179fa4068a7b1",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "d2acefb571f3f48dc20799257f6beb6f229b393b573c1769a7d632e9fa9ee64c",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "7db49422239cb67de542e990c69915eb08dc9b36fc2ca71a98db89adc5832d00",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "a19fe717ae38b527b3458d5f47715031395e46a2ab9dcb921e2926a3311a55c0",
    ),
}
CORPUS = "8efed8261460ebc5f40a939adcdc2ad0bf7c7167987f86eaba5bd5ee7198d2ea"


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
