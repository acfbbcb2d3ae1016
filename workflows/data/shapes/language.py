"""What can be said about a scene: captions, and questions with their answers.

Questions are balanced: half of the yes/no answers are yes, and counts are drawn before objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from superlink.workflows.data.shapes.colors import COLOR_NAMES
from superlink.workflows.data.shapes.scene import EXTREMES, Scene, SceneObject

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PAGES = {"white": "white", "plain": "plain", "gradient": "shaded", "noise": "grainy", "texture": "textured"}
QUESTION_KINDS = ("exist", "color", "shape", "count", "position")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    kind: str  # one of QUESTION_KINDS
    question: str
    answer: str  # one word or two, lower case


def plural(noun: str) -> str:
    """Plural of a shape's name."""
    if noun == "person":
        return "people"
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def named(item: SceneObject, size: bool = False) -> str:
    """ "large red circle" or "red circle"."""
    words = (item.size or "" if size else "", item.color, item.shape)
    return " ".join(word for word in words if word)


def join(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def caption(scene: Scene, rng: Generator) -> str:
    """One sentence that names every kind of object with its number, and often the background."""
    counts: dict[tuple[str, str], int] = {}
    for item in scene.objects:
        counts[item.color, item.shape] = counts.get((item.color, item.shape), 0) + 1
    parts = [
        article(f"{color} {shape}") if count == 1 else f"{NUMBERS[count]} {color} {plural(shape)}"
        for (color, shape), count in counts.items()
    ]
    order = rng.permutation(len(parts))
    listed = join([parts[i] for i in order])
    openings = (
        "",
        "a picture of ",
        "a scene with ",
        "there is " if parts[order[0]][0] == "a" else "there are ",
    )
    text = openings[int(rng.integers(len(openings)))] + listed
    if rng.random() < 0.5:
        text += f" on {article(page(scene) + ' background')}"
    return text[0].upper() + text[1:] + "."


def page(scene: Scene) -> str:
    """A word for the background."""
    background = scene.background
    if background.kind == "plain" and background.colors[0] == (255, 255, 255):
        return "white"
    return {"stripes": "striped", "checker": "checkered"}.get(
        background.kind, PAGES.get(background.kind, "plain")
    )


def ask(scene: Scene, rng: Generator, kind: str | None = None) -> Question | None:
    """A question of `kind` (default: any) with one right answer; None where the scene has none."""
    kind = kind or QUESTION_KINDS[int(rng.integers(len(QUESTION_KINDS)))]
    return {
        "exist": _exist,
        "color": _color,
        "shape": _shape,
        "count": _count,
        "position": _position,
    }[kind](scene, rng)


def _pick(rng: Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _exist(scene: Scene, rng: Generator) -> Question:
    present = {(item.color, item.shape) for item in scene.objects}
    if rng.random() < 0.5:
        color, shape = sorted(present)[int(rng.integers(len(present)))]
        answer = "yes"
    else:  # half right: the colour and the shape are both there, or nearly, but not together
        colors, shapes = sorted({c for c, _ in present}), sorted({s for _, s in present})
        absent = [(c, s) for c in colors for s in shapes if (c, s) not in present]
        if not absent:
            absent = [(c, shape) for c in COLOR_NAMES for shape in shapes if (c, shape) not in present]
        color, shape = absent[int(rng.integers(len(absent)))]
        answer = "no"
    thing = article(f"{color} {shape}")
    forms = (f"Is there {thing}?", f"Do you see {thing} here?", f"Does the picture show {thing}?")
    return Question(kind="exist", question=_pick(rng, forms), answer=answer)


def _color(scene: Scene, rng: Generator) -> Question | None:
    single = [item for item in scene.objects if len(scene.select(shape=item.shape)) == 1]
    if not single:
        return None
    item = single[int(rng.integers(len(single)))]
    forms = (f"What color is the {item.shape}?", f"Which color does the {item.shape} have?")
    return Question(kind="color", question=_pick(rng, forms), answer=item.color)


def _shape(scene: Scene, rng: Generator) -> Question | None:
    single = [item for item in scene.objects if len(scene.select(color=item.color)) == 1]
    if not single:
        return None
    item = single[int(rng.integers(len(single)))]
    forms = (f"What is the {item.color} thing?", f"What shape is the {item.color} object?")
    return Question(kind="shape", question=_pick(rng, forms), answer=item.shape)


def _count(scene: Scene, rng: Generator) -> Question:
    """Every number that some class of the scene has is equally likely."""
    classes: dict[int, list[str]] = {len(scene.objects): ["objects"]}
    for item in scene.objects:
        classes.setdefault(len(scene.select(shape=item.shape)), []).append(plural(item.shape))
        classes.setdefault(len(scene.select(color=item.color)), []).append(f"{item.color} objects")
    number = sorted(classes)[int(rng.integers(len(classes)))]
    noun = _pick(rng, sorted(set(classes[number])))
    forms = (f"How many {noun} are there?", f"Count the {noun}.", f"What is the number of {noun}?")
    return Question(kind="count", question=_pick(rng, forms), answer=NUMBERS[number])


def _position(scene: Scene, rng: Generator) -> Question | None:
    single = [item for item in scene.objects if len(scene.select(item.shape, item.color)) == 1]
    halves = [(item, half) for item in single for half in (item.column, item.row) if half is not None]
    extremes = [(extreme, scene.superlative(extreme)) for extreme in EXTREMES]
    found = [(extreme, item) for extreme, item in extremes if item is not None]
    if found and len(scene.objects) > 1 and rng.random() < 0.5:
        extreme, item = found[int(rng.integers(len(found)))]
        return Question(kind="position", question=f"What is the {extreme} object?", answer=named(item))
    if not halves:
        return None
    item, half = halves[int(rng.integers(len(halves)))]
    sides = "left or the right" if half in ("left", "right") else "top or the bottom"
    question = f"Is the {named(item)} in the {sides} half?"
    return Question(kind="position", question=question, answer=half)
