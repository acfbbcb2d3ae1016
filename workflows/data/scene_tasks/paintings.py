"""Pictures to be made: words for one to three shapes, and a clean scene that they describe.

They are drawn in one plain style: plain figures on white paper unless the words say otherwise, in places
that follow from the words but for a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from superlink.decoders.artifacts import Picture
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import described
from superlink.workflows.data.instructions.words import PLACES, article
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_phrases import said_color, said_shape, said_size
from superlink.workflows.data.scene_tasks import told
from superlink.workflows.data.scene_tasks.world import World, one_round, worded
from superlink.workflows.data.shapes import COLOR_NAMES, Scene
from superlink.workflows.data.shapes import SHAPES as DRAWN
from superlink.workflows.data.shapes.backgrounds import Background
from superlink.workflows.data.shapes.colors import lab_distance
from superlink.workflows.data.shapes.effects import Effects
from superlink.workflows.data.shapes.language import NUMBERS, join, plural
from superlink.workflows.data.shapes.plain import POSES, SHADES, plain_figure

CONTRAST = 30.0  # Lab distance by which every figure stands out from the page
_PAPERS = ("white", "black", "gray")  # where the words name none: the first that everything stands out from
_SIZES = {"": (0.44, 0.52), "small": (0.22, 0.26), "large": (0.64, 0.70)}  # in sides of the picture
_DRIFT = 0.02  # how far from its place a thing may stand, in sides of the picture
_RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_CORNERS = ("top left", "top right", "bottom left", "bottom right")
_Spot = tuple[float, float, float]  # centre x, y and size, in sides of the picture
_Kind = tuple[str, str]  # shape, colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Painting:
    """A description as a person says it, and a scene that it fits."""

    words: str  # "a blue star left of a red circle"
    listing: str  # "a blue star and a red circle", in the words of the world
    scene: Scene

    @property
    def name(self) -> str:
        """The phrase of its link: the words without their article."""
        return without_article(self.words)


def without_article(words: str) -> str:
    """ "a red star" as a link's phrase: "red star"."""
    first, _, rest = words.partition(" ")
    return rest if first in ("a", "an") else words


def generate(rng: Random, split: Split, world: World) -> Sample:
    """A new picture; now and then there is another one on the table, which has no part in it."""
    if not world.is_drawn:
        words, name = asked_for(rng, world)
        text = worded(rng, "generate", split, None, lambda group, form: words)
        return one_round(text, answer([("[GEN]", name)]), None, task="generate")
    made = painting(rng, world.painted, single=world.single)
    text = worded(rng, "generate", split, None, lambda group, form: made.words)
    image = world.pixels(world.scene) if rng.random() < 0.3 else None
    return one_round(
        text,
        answer([("[GEN]", made.name)]),
        image,
        targets=(Target(token="[GEN]", artifact=Picture(pixels=world.pixels(made.scene))),),
        task="generate",
        answer=made.listing,
    )


def asked_for(rng: Random, world: World) -> tuple[str, str]:
    """A picture in words alone, most often one that no scene could show, and the phrase of its link."""
    if rng.random() < told.SHARE:
        words = told.picture(rng)
        return words, without_article(words)
    made = painting(rng, world.painted, single=world.single)
    return made.words, made.name


def painting(rng: Random, side: int, *, single: bool = False) -> Painting:
    """One shape half of the time, always if `single`; else two that are placed, or several of a kind."""
    kind = rng.random()
    if kind < 0.5 or single:
        return _one(rng, side)
    return _two(rng, side) if kind < 0.9 else _several(rng, side)


def _one(rng: Random, side: int) -> Painting:
    shape, color = _kind(rng)
    size = said_size(rng, rng.choice(("small", "large"))) if rng.random() < 0.2 else ""
    place = rng.choice((*_CORNERS, "center")) if not size and rng.random() < 0.2 else ""
    where = f" {rng.choice(PLACES[place])}" if place and place != "center" else ""
    where = " in the middle" if place == "center" else where
    phrase = described(said_shape(rng, shape), color=said_color(rng, color), size=size)
    assert phrase.meaning is not None
    reach = rng.uniform(*_SIZES[phrase.meaning.size or ""])
    x = y = 0.5
    if place in _CORNERS:
        reach = rng.uniform(0.30, 0.36)
        row, column = place.split(" ")
        x, y = 0.26 if column == "left" else 0.74, 0.26 if row == "top" else 0.74
    spot = (_about(rng, x), _about(rng, y), reach)
    page = _page(rng, (color,))
    words = f"{article(phrase.name)} {phrase.name}{where}{_on(page)}"
    return Painting(
        words=words,
        listing=f"{article(color)} {color} {shape}",
        scene=_scene(rng, side, [(shape, color)], [spot], page),
    )


def _two(rng: Random, side: int) -> Painting:
    kinds = [_kind(rng), _kind(rng)]
    while kinds[1] == kinds[0]:
        kinds[1] = _kind(rng)
    said = [described(said_shape(rng, shape), color=said_color(rng, color)).name for shape, color in kinds]
    if rng.random() < 0.7:
        relation = rng.choice(tuple(_RELATIONS))
        joint = rng.choice(_RELATIONS[relation])
    else:  # as they are read
        relation, joint = "left", rng.choice(("next to", "and"))
    low, high = (0.27, 0.5), (0.73, 0.5)
    if relation in ("above", "below"):
        low, high = low[::-1], high[::-1]
    first, second = (low, high) if relation in ("left", "above") else (high, low)
    spots = [(_about(rng, x), _about(rng, y), rng.uniform(0.34, 0.40)) for x, y in (first, second)]
    page = _page(rng, [color for _, color in kinds])
    return Painting(
        words=f"{article(said[0])} {said[0]} {joint} {article(said[1])} {said[1]}{_on(page)}",
        listing=join([f"{article(color)} {color} {shape}" for shape, color in kinds]),
        scene=_scene(rng, side, kinds, spots, page),
    )


def _several(rng: Random, side: int) -> Painting:
    shape, color = _kind(rng)
    count = rng.choice((2, 3))
    size = rng.uniform(0.24, 0.28)
    row = (0.3, 0.7) if count == 2 else (0.18, 0.5, 0.82)
    spots = [(_about(rng, x), _about(rng, 0.5), size) for x in row]
    noun = plural(shape)
    page = _page(rng, (color,))
    return Painting(
        words=f"{NUMBERS[count]} {color} {noun}{_on(page)}",
        listing=f"{NUMBERS[count]} {color} {noun}",
        scene=_scene(rng, side, [(shape, color)] * count, spots, page),
    )


def _kind(rng: Random) -> _Kind:
    return rng.choice(DRAWN), rng.choice(COLOR_NAMES)


def _page(rng: Random, colors: Sequence[str]) -> str:
    """The colour of the background where it is said; "" where it is left open."""
    return rng.choice([name for name in COLOR_NAMES if name not in colors]) if rng.random() < 0.15 else ""


def _on(page: str) -> str:
    return f" on {article(page)} {page} background" if page else ""


def _about(rng: Random, place: float) -> float:
    return place + rng.uniform(-_DRIFT, _DRIFT)


def _scene(rng: Random, side: int, kinds: Sequence[_Kind], spots: Sequence[_Spot], page: str) -> Scene:
    papers = (page,) if page else _PAPERS
    inks = [SHADES[color] for _, color in kinds]
    grounds = [SHADES[paper] for paper in papers]
    apart = [min(lab_distance(ink, ground) for ink in inks) > CONTRAST for ground in grounds]
    figures = tuple(
        plain_figure(
            shape,
            color,
            cx=x * side,
            cy=y * side,
            size=size * side,
            pose=rng.randrange(len(POSES)) if shape == "person" else 0,
        )
        for (shape, color), (x, y, size) in zip(kinds, spots, strict=True)
    )
    return Scene(
        seed=rng.getrandbits(31),
        height=side,
        width=side,
        background=Background(kind="plain", colors=(grounds[apart.index(True)],)),
        figures=figures,
        rasterizer="smooth",
        effects=Effects(),
    )
