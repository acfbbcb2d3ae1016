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
    "words": (lambda: TextSamples(200), "6182c100b6df76a176a8d7b3dbcbd42b2ec144fb66c3b17f52e8f25039c43000"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "559979124bf9db31b3357cd1a7bed7144032b328ed9a66759bcd042960ec529b",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "c963b173bd3728bdf6aabcffd6b66609bbd6e9e82a46448da00d335031cba88b",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "01faebc10489f301a5ecde998dd9d7543da89563c683c02db28f66d1425ebc0c",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "0ca162b9a232a65cc8ce8d1c75c9359f7c5cc9897c8c5af3875b6aeb840d1825",
    ),
}
CORPUS = "b2417fae39217130cb433903458e8231badaf62568516f8e6736f98888df7fb8"


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
