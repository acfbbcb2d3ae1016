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
    "words": (lambda: TextSamples(200), "00fbb056c7b6a8df1ad25275b4ae3c4a23958c2b9a9214a400801e9c1b6f256f"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "33a5c4a8f2448c5a3a69cb2500382bc8dde0d261623fabe80ac1d8fe5f4e7dad",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "b598f269981e268c4865aa70f7732be42d82d5398b76aab03bedb293b512832b",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "b068effe0c82fdf1dff1545029ba41e8f545401e23b4cfb6877b941c57a48b32",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "ab1517ef64a4befabfe2fb8e946a22389500b1a37fc9a8f77c83be4ee2891c6d",
    ),
}
CORPUS = "edbc29c1fc46f4ba2b826a662bde73d3b484b054903e5c27918022e5118c843e"


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
