"""Visual prompts: what a person draws to mean one object of a scene."""

from __future__ import annotations

from random import Random
from typing import Literal

import numpy as np
from scipy.ndimage import binary_erosion

from superlink.router.messages import Box, Mask, Point, Prompt, Scribble
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.regions import region_instruction
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.world import World, one_round
from superlink.workflows.data.shapes import SceneObject

PromptKind = Literal["point", "box", "scribble", "mask"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("point", "box", "scribble", "mask")
_ODDS = (45, 25, 15, 15)
_TRIES = 40


def prompt_for(rng: Random, item: SceneObject, kind: PromptKind | None = None) -> Prompt:
    """A click, a loose box, a scribble or a painted area that means one object; any `kind` by default."""
    inner = binary_erosion(item.mask, iterations=2)
    rows, columns = np.nonzero(inner if inner.any() else item.mask)
    kind = kind or rng.choices(PROMPT_KINDS, _ODDS)[0]
    if kind == "box":
        x0, y0, x1, y1 = item.box
        loose = 0.06 * max(x1 - x0, y1 - y0)
        height, width = item.mask.shape
        left, top = x0 + rng.uniform(-loose, loose), y0 + rng.uniform(-loose, loose)
        right, bottom = x1 + rng.uniform(-loose, loose), y1 + rng.uniform(-loose, loose)
        return Box(max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if kind == "mask":
        return Mask(inner if inner.any() and rng.random() < 0.5 else item.mask)
    picks = [rng.randrange(len(rows)) for _ in range(1 if kind == "point" else rng.randrange(3, 7))]
    points = sorted((float(columns[pick]) + 0.5, float(rows[pick]) + 0.5) for pick in picks)
    return Point(*points[0]) if kind == "point" else Scribble(tuple(points))


def interactive(rng: Random, split: Split, world: World) -> Sample | None:
    """The mask of everything that was marked; its task is "interactive/point" and so on."""
    scene = world.scene
    kind = rng.choice(PROMPT_KINDS)
    count = min(rng.choices((1, 2, 3), (80, 15, 5))[0], len(scene.objects))
    items = rng.sample(scene.objects, count)
    for _ in range(_TRIES):
        found = region_instruction(rng, split, world.source, count, masked=True)
        if found is not None and len(found.requests) == count:
            break
    else:
        return None
    image = world.pixels(scene)
    prompts = tuple(prompt_for(rng, item, kind) for item in items)
    names = [request.phrase.name for request in found.requests]
    groups = {name: [item] for name, item in zip(names, items, strict=True)}
    return one_round(
        found.text,
        answer(found.routed),
        image,
        prompts=prompts,
        targets=(world.target("[SEG]", scene, groups),),
        task=f"interactive/{kind}",
    )
