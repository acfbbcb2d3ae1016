"""Which things of a scene the words of a conversation are about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from superlink.decoders.artifacts import Masks
from superlink.workflows.data.samples import Look
from superlink.workflows.data.shapes import Scene, SceneObject

# What is said, and what it means.
Spoken = tuple[str, Sequence[SceneObject]]


def everything(scene: Scene) -> Masks:
    """All objects of a scene under their colour and shape."""
    return scene.masks(_groups(scene.objects))


def looks_at(
    message: int, text: str, spoken: Iterable[Spoken], scene: Scene, *, names: bool = True
) -> tuple[Look, ...]:
    """Where `spoken` words stand in a text, in the order of the text; left out where spelling hides them.

    Args:
        message: which message of its conversation the text is.
        names: whether the words say which things they mean.
    """
    rows = {
        item.index: row
        for row, item in enumerate(item for group in _groups(scene.objects).values() for item in group)
    }
    found = []
    for words, items in spoken:
        start = text.lower().find(words.lower())
        if start >= 0:
            things = tuple(sorted(rows[item.index] for item in items))
            stop = start + len(words)
            found.append(Look(message=message, start=start, stop=stop, things=things, names=names))
    return tuple(sorted(found, key=lambda look: look.start))


def _groups(items: Iterable[SceneObject]) -> Mapping[str, Sequence[SceneObject]]:
    groups: dict[str, list[SceneObject]] = {}
    for item in items:
        groups.setdefault(f"{item.color} {item.shape}", []).append(item)
    return groups
