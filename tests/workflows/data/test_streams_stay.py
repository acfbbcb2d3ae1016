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
    "words": (lambda: TextSamples(200), "0b0247618a8e7a65a44142b62f7a034ca1899d2c9e4617b5ea7b0d4825b05674"),
    "words of the recipe": (
        lambda: TextSamples(200, mix=SPEAKING),
        "67c72dbb4336b72bd48546a4b2c9cada81f2db81164555d3d2899a3299bd7c87",
    ),
    "held-out words": (
        lambda: TextSamples(200, split="heldout"),
        "6b8995b8aa01b77f577e007ab70d6cc77ce683037a6569d692642c4c5177a690",
    ),
    "pictures": (
        lambda: ShapesSamples(200),
        "4f09da5c06fa88634ec853b0c1b106ba9ac84cdf25834b349106d850a76627c1",
    ),
    "pictures of the recipe": (
        lambda: ShapesSamples(200, mix=SEEING, scenes=SMALL, masks=True),
        "caf9bcc736f54c117d43a05dea4491c6d858603919edde07989d4a03ed524ad4",
    ),
}
CORPUS = "9b0670c80c45047b3f9fee0618935b27d10a9cf4dcf76c94b2bf1cd312933f37"


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
