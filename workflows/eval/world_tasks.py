"""Samples of the tasks in `tasks`, from held-out scenes in the plain words that scenes know themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np

from superlink.decoders.artifacts import Artifact, Picture
from superlink.router.messages import ImageArray, Message
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_tasks.prompts import prompt_for
from superlink.workflows.data.shapes import Scene, SceneConfig
from superlink.workflows.data.shapes.edits import EDIT_KINDS, sample_edit
from superlink.workflows.data.shapes.language import QUESTION_KINDS, article, ask, caption, join, named
from superlink.workflows.eval.scenes import FIRST_SEED

PAINTED = SceneConfig(
    height=128, width=128, max_objects=2, min_size=0.25, effects=0.0, other_canvas=0.0
)  # pictures to be made and edited
_PEOPLE = SceneConfig(max_objects=4, shapes=("person", "circle", "star"))


class WorldTask:
    """Samples of one part; the same (part, seed, index) is the same sample.

    Args:
        part: one of `tasks.TASKS`.
        length: number of samples.
        seed: other seeds ask about other scenes.
    """

    def __init__(self, part: str, length: int, *, seed: int = 0) -> None:
        self._part, self._length, self._seed = part, length, seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        rng = Random(f"{self._part}:{self._seed}:{index}")
        while True:  # some scenes have nothing to ask for
            seed = FIRST_SEED + (1 << 62) + rng.randrange(1 << 61)
            sample = _DRAWN[self._part](rng, seed, index)
            if sample is not None:
                return replace(sample, source=f"{self._part}:{self._seed}:{index}")


def _pose(rng: Random, seed: int, index: int) -> Sample | None:
    scene = Scene.generate(seed, _PEOPLE)
    people = scene.select("person")
    if not people:
        return None
    text, truth = "Find the keypoints of every person.", scene.keypoints({"person": people})
    return _sample("pose", text, scene.image(), target=("[POSE]", truth))


def _question(rng: Random, seed: int, index: int) -> Sample | None:
    scene = Scene.generate(seed)
    asked = ask(scene, np.random.default_rng(seed), QUESTION_KINDS[index % len(QUESTION_KINDS)])
    if asked is None:
        return None
    return _sample(f"vqa/{asked.kind}", asked.question, scene.image(), reply=asked.answer)


def _caption(rng: Random, seed: int, index: int) -> Sample:
    scene = Scene.generate(seed)
    reply = caption(scene, np.random.default_rng(seed))
    return _sample("caption", "Describe the picture.", scene.image(), reply=reply)


def _click(rng: Random, seed: int, index: int) -> Sample:
    scene = Scene.generate(seed)
    item = rng.choice(scene.objects)
    sample = _sample(
        "interactive", "Segment region1.", scene.image(), target=("[SEG]", scene.masks({"region1": [item]}))
    )
    first = replace(sample.conversation[0], prompts=(prompt_for(rng, item),))
    return replace(sample, conversation=(first, *sample.conversation[1:]))


def _generation(rng: Random, seed: int, index: int) -> Sample | None:
    scene = _plain_scene(seed)
    if scene is None:
        return None
    text = f"Draw {join([article(named(item)) for item in scene.objects])}."
    return _sample("generate", text, None, target=("[GEN]", Picture(pixels=scene.image())))


def _edit(rng: Random, seed: int, index: int) -> Sample | None:
    scene, kind = _plain_scene(seed), EDIT_KINDS[index % len(EDIT_KINDS)]
    edit = None if scene is None else sample_edit(scene, np.random.default_rng(seed), kind)
    if edit is None:
        return None
    target = ("[EDIT]", Picture(pixels=edit.after.image()))
    return _sample(f"edit/{kind}", edit.instruction, edit.before.image(), target=target)


def _plain_scene(seed: int) -> Scene | None:
    """A scene that the judge is meant for; None where the seed gives another."""
    scene = Scene.generate(seed, PAINTED)
    is_plain = scene.background.kind in ("plain", "gradient") and scene.background.clutter == "none"
    return scene if is_plain else None


def _sample(
    task: str,
    text: str,
    image: ImageArray | None,
    *,
    reply: str = "",
    target: tuple[str, Artifact] | None = None,
) -> Sample:
    user = Message(role="user", text=text, images=() if image is None else (image,))
    return Sample(
        conversation=(user, Message(role="assistant", text=reply)),
        image=image,
        targets=() if target is None else (Target(token=target[0], artifact=target[1]),),
        task=task,
    )


_DRAWN: dict[str, Callable[[Random, int, int], Sample | None]] = {
    "keypoints": _pose,
    "vqa": _question,
    "captions": _caption,
    "interactive": _click,
    "generation": _generation,
    "edits": _edit,
}
