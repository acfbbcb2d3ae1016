"""Edits: two scenes that differ in one thing, and the instruction that leads from one to the other.

What is new is plain: one shade of every colour, and what is added stands in the middle of the third of the
picture that is named. Then a picture and the words say what comes, and nothing has to be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from superlink.workflows.data.shapes.backgrounds import Background
from superlink.workflows.data.shapes.colors import COLOR_NAMES, lab_distance
from superlink.workflows.data.shapes.figures import SHAPES, Figure
from superlink.workflows.data.shapes.language import article, named
from superlink.workflows.data.shapes.layout import has_room
from superlink.workflows.data.shapes.plain import POSES, SHADES, plain_figure
from superlink.workflows.data.shapes.scene import Scene, SceneObject

EditKind = Literal["recolor", "remove", "add", "background"]
_APART = 26.0  # Lab distance by which what is new stands out
_ADDED = 0.26  # size of an added figure, in sides of the picture
_MIDDLES = (0.18, 0.5, 0.82)  # of the thirds that it stands in
EDIT_KINDS: tuple[EditKind, ...] = ("recolor", "remove", "add", "background")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edit:
    kind: EditKind
    before: Scene
    after: Scene
    instruction: str
    region: NDArray[np.bool_]  # (H, W) where the drawing may differ
    item: SceneObject | None = None  # of `before`; the new one of `after` for "add"; None for the background
    color: str = ""  # new colour of the object or the background


def sample_edit(scene: Scene, rng: Generator, kind: EditKind | None = None) -> Edit | None:
    """An edit of `kind` (default: any) whose referent is one object; None where there is none."""
    kind = kind or EDIT_KINDS[int(rng.integers(len(EDIT_KINDS)))]
    if kind == "background":
        return _background(scene, rng)
    if kind == "add":
        return _add(scene, rng)
    single = [item for item in scene.objects if len(scene.select(item.shape, item.color)) == 1]
    if not single:
        return None
    item = single[int(rng.integers(len(single)))]
    return recolored(scene, item, rng) if kind == "recolor" else removed(scene, item, rng)


def _pick(rng: Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def recolored(scene: Scene, item: SceneObject, rng: Generator) -> Edit | None:
    """The edit that gives an object another colour; None where none stands out from the background."""
    figure = item.figure
    for _ in range(12):
        color = _pick(rng, COLOR_NAMES)
        rgb = SHADES[color]
        if color != item.color and all(lab_distance(rgb, c) > _APART for c in scene.background.colors):
            break
    else:
        return None
    stroke = rgb if figure.hollow else figure.stroke_rgb
    changed = replace(figure, color=color, rgb=rgb, stroke_rgb=stroke)
    figures = tuple(changed if f is figure else f for f in scene.figures)
    thing = named(item)
    forms = (f"Make the {thing} {color}.", f"Paint the {thing} {color}.", f"Turn the {thing} {color}.")
    return _edit("recolor", scene, figures, _pick(rng, forms), item, color)


def removed(scene: Scene, item: SceneObject, rng: Generator) -> Edit:
    """The edit that takes an object away."""
    figures = tuple(figure for figure in scene.figures if figure is not item.figure)
    thing = named(item)
    forms = (f"Remove the {thing}.", f"Erase the {thing}.", f"Take away the {thing}.")
    return _edit("remove", scene, figures, _pick(rng, forms), item)


def _add(scene: Scene, rng: Generator) -> Edit | None:
    """The edit that adds a plain figure to the middle of a third that has room; None where none has."""
    shape, color = _pick(rng, SHAPES), _pick(rng, COLOR_NAMES)
    if any(lab_distance(SHADES[color], other) <= _APART for other in scene.background.colors):
        return None
    height, width = scene.size
    size = _ADDED * (height * width) ** 0.5
    thirds = [(x, y) for x in _MIDDLES for y in _MIDDLES]
    for index in rng.permutation(len(thirds)):
        x, y = thirds[index]
        figure = plain_figure(
            shape, color, cx=x * width, cy=y * height, size=size, pose=int(rng.integers(len(POSES)))
        )
        if has_room(figure, scene.figures, scene.rasterizer, scene.size):
            break
    else:
        return None
    after = scene.with_figures((*scene.figures, figure))
    new = after.objects[-1]
    corner = " ".join(word for word in (new.row, new.column) if word)
    where = f" at the {corner}" if corner else " in the middle"
    thing = article(named(new))
    forms = (f"Add {thing}{where}.", f"Draw {thing}{where}.", f"Put {thing}{where}.")
    instruction = _pick(rng, forms)
    return Edit(kind="add", before=scene, after=after, instruction=instruction, region=_around(new), item=new)


def _background(scene: Scene, rng: Generator) -> Edit | None:
    for _ in range(12):
        color = _pick(rng, COLOR_NAMES)
        rgb = SHADES[color]
        others = [figure.rgb for figure in scene.figures] + list(scene.background.colors)
        if all(lab_distance(rgb, other) > _APART for other in others):
            break
    else:
        return None
    after = replace(scene, background=Background(kind="plain", colors=(rgb,)))
    forms = (f"Make the background {color}.", f"Change the background to {color}.")
    everywhere = np.ones(scene.size, dtype=np.bool_)
    return Edit(
        kind="background",
        before=scene,
        after=after,
        instruction=_pick(rng, forms),
        region=everywhere,
        color=color,
    )


def _edit(
    kind: EditKind,
    before: Scene,
    figures: tuple[Figure, ...],
    instruction: str,
    item: SceneObject,
    color: str = "",
) -> Edit:
    return Edit(
        kind=kind,
        before=before,
        after=before.with_figures(figures),
        instruction=instruction,
        region=_around(item),
        item=item,
        color=color,
    )


def _around(item: SceneObject) -> NDArray[np.bool_]:
    """The object's box with the width of soft edges, blur and hidden parts around it."""
    region = np.zeros(item.mask.shape, dtype=np.bool_)
    figure = item.figure
    reach = figure.size / 2 + figure.stroke_width + 4
    top, left = max(0, int(figure.cy - reach)), max(0, int(figure.cx - reach))
    region[top : int(figure.cy + reach) + 1, left : int(figure.cx + reach) + 1] = True
    return region
