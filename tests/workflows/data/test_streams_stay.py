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
# SHA-256 of the first 200 samples, recorded with the templates as they are.
RECORDED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "words": (lambda: TextSamples(200), "a63fb6c0a6400dd2ba969154f7c20300a2909db6c4f075cdd2d48b9b0502612d"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "4da128b88670c6f73d3b9c227c3cb12791bb9b2923469ded3015a77246959411",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "c963b173bd3728bdf6aabcffd6b66609bbd6e9e82a46448da00d335031cba88b",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "c49f1e358cb93d848049f5aa568291435dc42bb1f80de804f602f414a7ddb4a7",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "661e3da24e497bd5348686047f3c5d4ebddc374a191a5ad941f0b3ef2fa31c42",
    ),
}
CORPUS = "f2fad26ffaaf36a54c632c5e1d504107e347b8a5306e6a745b7bfa650bf3bc9b"


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
