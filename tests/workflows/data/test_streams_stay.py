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
    "words": (lambda: TextSamples(200), "fcabadef17d5fccaf8fac5b2df24c1b5b54bb0e517b658879f7269cc89f6875e"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "74dc7b3c4dfdfb1b81944ffab677d6a77fd99dd1e1a034992cfe3126a119a0bd",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "b1be2768d412af68de55e4e15468938075e3878095af97abbe268a388bdb4306",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "33ba9e938365360b2e824aa5f0b08cde7ed5a8bf02f003fcf124907b102c1ed6",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "ba45a280b5c0ae83fb052632507f3c1122af0d6f234893eb869768a7fa33ec9c",
    ),
}
CORPUS = "427fb388532a6a9150c2f8c866175189e75284d3a06928330615a9be1851cb0a"


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
