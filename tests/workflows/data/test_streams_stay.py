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
# SHA-256 of the first 200 samples, recorded before any task but boxes and masks was there.
RECORDED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "words": (lambda: TextSamples(200), "0b64788d761ecf48a89d17be3caa8734eb9dba8df547670f5254ff684e975d96"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "7bc61a84d4c5777501bfe525619462176cba2a7871688ecca0e3f927a4700ccd",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "99918c1d4e6cb8639c072490a92503afa2412915d5319b26b57d2bb111c34d16",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "070cf87941b7247e2a1ffb2be45686beb726f9a000a18ceffcdecfae4843c6a2",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "f0cc43cc9f59c55fabbd4cf695437745887861bd3e59227d334753d6c4971611",
    ),
}
CORPUS = "f1c6c7b848efd1b2189f2549c48d0fa97f15390586c7acfe18e269ef2ad39081"


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
