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
    "words": (lambda: TextSamples(200), "bf6da285c6537a6c8e4141b0bb115ddb7110fe1646d2133191e14728018e917f"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "dd76267c06246254895ff11b78617473d1bc8aeeb178c9e108c7970603845d27",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "1b767faea855f0d963b6891aa60b6a8ae871663bded05eca6cd229a0a546de07",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "a4e6d98cc246fa1874483ba52b994a3e74cedc120edb9c0990cfa46fe3331cf4",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "493b8e146fe2a56a54d52c3d6de50b09f74b067e923f519442f66b9eac6fedd8",
    ),
}
CORPUS = "54f7bb8fa3384eff10ac422236430d029e600dba2db660bcd9f762f0797fc0ed"


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
