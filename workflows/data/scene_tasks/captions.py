"""Descriptions: of a whole scene, with or without boxes, and of what a person has marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from superlink.workflows.data.instructions.grammar import Split, word_list
from superlink.workflows.data.instructions.phrases import joined
from superlink.workflows.data.instructions.words import article, plural
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.answers import short_answer
from superlink.workflows.data.scene_tasks.looks import everything, looks_at
from superlink.workflows.data.scene_tasks.prompts import prompt_for
from superlink.workflows.data.scene_tasks.world import World, one_round, worded
from superlink.workflows.data.shapes import Scene, SceneObject
from superlink.workflows.data.shapes.language import NUMBERS, join, page

_OPENING = "I see"  # one opening: what follows depends on the picture alone


def caption(rng: Random, split: Split, world: World) -> Sample:
    """One sentence that names every object with its number, from left to right.

    Its answer is the list alone, as `objects_named` reads it.
    """
    section = "page" if rng.random() < 0.2 else "plain"
    spoken = [
        (f"{article(name)} {name}" if len(items) == 1 else f"{NUMBERS[len(items)]} {plural(name)}", items)
        for name, items in kinds(world.scene).items()
    ]
    listing = join([words for words, _ in spoken])
    ground = page(world.scene)
    behind = f" on {article(ground)} {ground} background" if section == "page" else ""
    text = worded(rng, "caption", split, section, lambda group, form: "")
    image = world.pixels(world.scene)
    reply = f"{_OPENING} {listing}{behind}."
    return one_round(
        text,
        reply,
        image,
        task="caption",
        answer=listing,
        shown=everything(world.scene),
        looks=looks_at(1, reply, spoken, world.scene),
    )


def grounded_caption(rng: Random, split: Split, world: World) -> Sample:
    """A sentence in which every kind of object is a phrase with its own [DET]."""
    groups = kinds(world.scene)
    parts = [f"{article(name)}<det> {name}</det>[DET]" for name in groups]
    text = worded(rng, "grounded", split, None, lambda group, form: "")
    image = world.pixels(world.scene)
    return one_round(
        text,
        f"{_OPENING} {join(parts)}.",
        image,
        targets=(world.target("[DET]", world.scene, groups),),
        task="grounded_caption",
    )


def region_caption(rng: Random, split: Split, world: World) -> Sample:
    """How the marked objects look and where they are: "a large red circle in the top left"."""
    items = _marked(rng, world.scene)
    section = "told one" if len(items) == 1 else "told several"
    return _of_regions(rng, split, world, items, section, [_told(item) for item in items])


def recognition(rng: Random, split: Split, world: World) -> Sample:
    """What the marked objects are; now and then only the colour or shape of one."""
    items = _marked(rng, world.scene)
    if len(items) == 1 and rng.random() < 0.3:
        if rng.random() < 0.5:
            return _of_regions(rng, split, world, items, "color", [items[0].color])
        return _of_regions(rng, split, world, items, "shape", [f"a {items[0].shape}"])
    section = "named one" if len(items) == 1 else "named several"
    named = [f"{article(item.color)} {item.color} {item.shape}" for item in items]
    return _of_regions(rng, split, world, items, section, named)


def _of_regions(
    rng: Random,
    split: Split,
    world: World,
    items: Sequence[SceneObject],
    section: str,
    answers: Sequence[str],
) -> Sample:
    names = [f"region{k}" for k in range(1, len(items) + 1)]
    marked = joined(rng, names)
    if rng.random() < 0.7:
        marked = rng.choice(word_list("this" if len(items) == 1 else "these"))
    text = worded(rng, "about_region", split, section, lambda group, form: marked)
    image = world.pixels(world.scene)
    prompts = tuple(prompt_for(rng, item) for item in items)
    reply = f"{'It is' if len(items) == 1 else 'They are'} {join(answers)}."
    return one_round(
        text,
        reply,
        image,
        prompts=prompts,
        task="region_caption" if section.startswith("told") else "recognition",
        answer=short_answer(reply),
    )


def kinds(scene: Scene) -> Mapping[str, Sequence[SceneObject]]:
    """Objects by colour and shape, from left to right: one order for one scene."""
    found: dict[str, list[SceneObject]] = {}
    for item in sorted(scene.objects, key=lambda item: item.center):
        found.setdefault(f"{item.color} {item.shape}", []).append(item)
    return found


def _marked(rng: Random, scene: Scene) -> list[SceneObject]:
    count = min(rng.choices((1, 2, 3), (80, 16, 4))[0], len(scene.objects))
    return rng.sample(scene.objects, count)


def _told(item: SceneObject) -> str:
    size = item.size if item.size in ("small", "large") else ""
    words = " ".join(word for word in (size, item.color, item.shape) if word)
    if item.row and item.column:
        where = f"in the {item.row} {item.column}"
    elif item.column:
        where = f"on the {item.column}"
    elif item.row:
        where = f"at the {item.row}"
    else:
        where = "in the middle"
    return f"{article(words)} {words} {where}"
