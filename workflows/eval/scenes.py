"""Questions about held-out scenes and foreign pictures, each with what should be found.

Instructions come from wordings that training never used; classes are colour and shape, a quarter
of them absent and chosen to be nearly right (another colour or another shape of the scene).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np

from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.tasks import Instruction, instruction
from superlink.workflows.data.scene_phrases import ScenePhrases
from superlink.workflows.data.shapes import COLOR_NAMES, SHAPES, Scene, SceneConfig, SceneObject
from superlink.workflows.eval.answering import listed, question
from superlink.workflows.eval.finding import Asked
from superlink.workflows.eval.foreign import draw_foreign
from superlink.workflows.eval.foreign_people import draw_people

ABSENT = 0.25  # share of classes that a question names in vain
FIRST_SEED = 1 << 64  # training samples draw scenes below


class ColoredShapes(ScenePhrases):
    """Phrases of a colour and a shape, such as "red circle"."""

    def classes(self, rng: Random, count: int) -> list[Phrase]:
        pairs = sorted({(item.color, item.shape) for item in self.scene.objects})
        chosen = colored_shapes(rng, pairs, count)
        return [described(shape, color=color) for color, shape in chosen]


def colored_shapes(rng: Random, present: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """`count` different (colour, shape) pairs, most of them present as long as there are any."""
    left = list(present)
    rng.shuffle(left)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count:
        if left and (not chosen or rng.random() >= ABSENT):
            chosen.append(left.pop())
            continue
        color, shape = rng.choice(list(present))
        if rng.random() < 0.5:
            pair = (rng.choice(COLOR_NAMES), shape)
        else:
            pair = (color, rng.choice(SHAPES))
        if pair not in present and pair not in chosen:
            chosen.append(pair)
    return chosen


def scene_of(index: int, seed: int) -> Scene:
    """A held-out scene."""
    return Scene.generate(FIRST_SEED + (seed << 32) + index, SceneConfig())


def detection(scenes: int, seed: int, *, plainly: bool = False) -> Iterator[Asked[Boxes]]:
    """Boxes of one to five coloured shapes in every scene.

    Args:
        scenes: how many.
        seed: other seeds draw other scenes and ask for other things.
        plainly: the same things of the same scenes, but all asked for as "Find all ..."; what is missed then
            was not lost in a wording.
    """
    for index in range(scenes):
        scene = scene_of(index, seed)
        source = ColoredShapes(scene)
        asked = _instruction(Random(f"detect:{seed}:{index}"), "detect", source)
        text = asked.text
        if plainly:
            rng = Random(f"plainly:{seed}:{index}")
            text = _plainly([request.phrase for request in asked.requests], rng)
        yield Asked(question=question(text, scene.image()), truth=scene.boxes(_groups(source, asked)))


def segmentation(scenes: int, seed: int) -> Iterator[Asked[Masks]]:
    """Masks of one to five coloured shapes in every scene."""
    for index in range(scenes):
        scene = scene_of(index, seed)
        source = ColoredShapes(scene)
        asked = _instruction(Random(f"segment:{seed}:{index}"), "segment", source)
        yield Asked(question=question(asked.text, scene.image()), truth=scene.masks(_groups(source, asked)))


def grounding(scenes: int, seed: int) -> Iterator[Asked[Boxes]]:
    """One object by superlative or place in every scene that has one."""
    for index in range(scenes):
        scene = scene_of(index, seed)
        source = ScenePhrases(scene)
        asked = instruction(Random(f"ground:{seed}:{index}"), "ground", "heldout", source)
        if asked is not None:
            truth = scene.boxes(_groups(source, asked))
            yield Asked(question=question(asked.text, scene.image()), truth=truth)


def foreign(pictures: int, seed: int) -> Iterator[Asked[Boxes]]:
    """Boxes of up to five coloured shapes in every picture by another program."""
    for index in range(pictures):
        rng = Random(f"foreign:{seed}:{index}")
        picture = draw_foreign((seed << 20) + index)
        present = [_pair(name) for name in picture.boxes.names]
        names = colored_shapes(rng, present, min(len(present), 5))
        text = _plainly([described(shape, color=color) for color, shape in names], rng)
        truth = _restricted(picture.boxes, [f"{color} {shape}" for color, shape in names])
        yield Asked(question=question(text, picture.pixels), truth=truth)


def foreign_people(pictures: int, seed: int) -> Iterator[Asked[Keypoints]]:
    """Everybody's keypoints in every picture of people by another program."""
    for index in range(pictures):
        picture = draw_people((seed << 20) + index)
        asked = question("Find the keypoints of every person.", picture.pixels)
        yield Asked(question=asked, truth=picture.keypoints)


def _plainly(phrases: Sequence[Phrase], rng: Random) -> str:
    return f"Find all {listed([phrase.said_many(rng) for phrase in phrases])}."


def _pair(name: str) -> tuple[str, str]:
    color, _, shape = name.partition(" ")
    return color, shape


def _restricted(boxes: Boxes, names: list[str]) -> Boxes:
    """What there is of the classes that are asked for."""
    rows = [row for row, label in enumerate(boxes.labels) if boxes.names[label] in names]
    labels = [names.index(boxes.names[boxes.labels[row]]) for row in rows]
    return Boxes(
        xyxy=boxes.xyxy[rows],
        scores=boxes.scores[rows],
        labels=np.asarray(labels, dtype=np.int64),
        names=tuple(names),
        size=boxes.size,
    )


def _instruction(rng: Random, task: str, source: ScenePhrases) -> Instruction:
    while True:  # some wordings are about one object only
        found = instruction(rng, task, "heldout", source, many=True)
        if found is not None and not any(request.phrase.is_one for request in found.requests):
            return found


def _groups(source: ScenePhrases, asked: Instruction) -> dict[str, list[SceneObject]]:
    return {request.phrase.name: source.objects(request.phrase) for request in asked.requests}
