"""Held-out samples for the parts in `tasks`: tasks of training in scenes and wordings that it never draws."""

from __future__ import annotations

from collections import Counter

from superlink.decoders.artifacts import Keypoints, Picture
from superlink.workflows.data.instructions.mix import ShapesMix
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.answers import objects_named
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ShapesSamples
from superlink.workflows.eval.pictures import EDIT_KINDS, asked_edit, names_asked

FIRST_STREAM = 1_000_003  # added to seeds: validation of a training draws held-out samples below
_STRIDE = 1 << 20  # to the next sample in place of one that cannot be scored
_LENGTH = 1 << 31  # scenes of one stream
# The task of `ShapesMix` that each part draws.
_DRAWN: dict[str, str] = {
    "keypoints": "pose",
    "vqa": "vqa",
    "captions": "caption",
    "interactive": "interactive",
    "generation": "generate",
    "edits": "edit",
}
_EDITED = SceneConfig(height=128, width=128, other_canvas=0.0)  # the side of pictures to be made


class HeldoutSamples:
    """Samples of one part, each of which can be scored; the same (part, seed, index) is the same sample.

    Args:
        part: one of `tasks.TASKS`.
        length: number of samples.
        seed: other seeds ask about other scenes.
    """

    def __init__(self, part: str, length: int, *, seed: int = 0) -> None:
        self._length = length
        self._drawn = ShapesSamples(
            _LENGTH,
            seed=FIRST_STREAM + seed,
            split="heldout",
            mix=ShapesMix.only(_DRAWN[part]),
            scenes=_EDITED if part == "edits" else None,
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        sample = self._drawn[index]
        while not can_be_scored(sample):
            index += _STRIDE
            sample = self._drawn[index]
        return sample


def can_be_scored(sample: Sample) -> bool:
    """Whether a right answer is sure to score as right.

    The judge must read true pictures as they were meant, what is marked must be marked once, and every
    person must have a keypoint that is asked for within the picture.
    """
    task, _, kind = sample.task.partition("/")
    if task == "interactive":
        return sum(len(message.prompts) for message in sample.conversation) == 1
    for artifact in (target.artifact for target in sample.targets):
        if isinstance(artifact, Keypoints):
            return bool((artifact.xyv[..., 2] > 0).any(axis=1).all())
        if isinstance(artifact, Picture) and task == "generate":
            meant = objects_named(sample.answer or "").elements()
            return Counter(names_asked(artifact.pixels)) == Counter(map(" ".join, meant))
        if isinstance(artifact, Picture) and sample.image is not None:
            (asked,) = (one for one in EDIT_KINDS if one == kind)
            return asked_edit(asked, sample.image, artifact.pixels) is not None
    return True
