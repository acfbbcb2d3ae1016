"""Ways to say one object of a scene, of which there is no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.vocabulary import singled_out
from superlink.workflows.data.instructions.words import GENERIC, SUPERLATIVES
from superlink.workflows.data.scene_phrases import ScenePhrases, said_color, said_shape, said_size
from superlink.workflows.data.shapes import Scene, SceneObject

NEAR = 0.12  # sides of the picture by which one object must be left of (or above) another to be called so


def referent(
    rng: Random,
    source: ScenePhrases,
    item: SceneObject,
    *,
    color: bool = True,
    shape: bool = True,
    place: bool = True,
) -> Phrase | None:
    """A phrase that only `item` fits, such as "small circle" or "leftmost red thing".

    Args:
        color: the phrase may say its colour.
        shape: the phrase may say its shape; else it is a "thing".
        place: the phrase may say its place, or that it is the largest.

    Returns:
        None where no such words single it out.
    """
    noun = said_shape(rng, item.shape) if shape else rng.choice(GENERIC)
    hue = said_color(rng, item.color) if color else ""
    size = said_size(rng, item.size)
    plain = [described(noun, color=hue), described(noun), described(noun, color=hue, size=size)]
    plain += [described(noun, size=size)]
    fitting = [phrase for phrase in plain if _is_only(source, phrase, item)]
    if fitting and (not place or rng.random() < 0.75):
        return replace(rng.choice(fitting[:2]), is_one=True)
    if not place:
        return None
    wide = plain[0] if rng.random() < 0.5 else plain[1]
    for superlative in rng.sample(tuple(SUPERLATIVES), len(SUPERLATIVES)):
        phrase = singled_out(rng, wide, superlative)
        if not phrase.after and _is_only(source, phrase, item):
            return phrase
    return replace(fitting[0], is_one=True) if fitting else None


def _is_only(source: ScenePhrases, phrase: Phrase, item: SceneObject) -> bool:
    return [one.index for one in source.objects(phrase)] == [item.index]


def relations(scene: Scene, one: SceneObject, other: SceneObject) -> list[str]:
    """Where `one` clearly is, seen from `other`: "left" or "right", "above" or "below"."""
    found = []
    for axis, side, words in ((0, scene.width, ("left", "right")), (1, scene.height, ("above", "below"))):
        lead = (one.center[axis] - other.center[axis]) / side
        if abs(lead) > NEAR:
            found.append(words[lead > 0])
    return found


def pairs(scene: Scene, relation: str) -> Sequence[tuple[SceneObject, SceneObject]]:
    """Every two objects of which the first is `relation` ("left") of the second."""
    items = scene.objects
    return [(a, b) for a in items for b in items if a is not b and relation in relations(scene, a, b)]
