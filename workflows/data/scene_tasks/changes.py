"""Edits: one thing of a scene is recoloured, removed or added, or the background changes."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from superlink.decoders.artifacts import Picture
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import described
from superlink.workflows.data.instructions.words import HALVES, PLACES, article
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_phrases import said_color, said_shape
from superlink.workflows.data.scene_tasks import told
from superlink.workflows.data.scene_tasks.referents import referent
from superlink.workflows.data.scene_tasks.world import World, numbers, one_round, worded
from superlink.workflows.data.shapes.edits import Edit, EditKind, sample_edit

_KINDS: tuple[EditKind, ...] = ("recolor", "remove", "add", "background")
_ODDS = (32, 26, 26, 16)
LEAST_SIZE = 0.16  # in sides: what is smaller has no shape left where pictures are made
MOST_OBJECTS = 5
_TRIES = 8
# How a change is said within a longer sentence.
_ORDERS: dict[EditKind, tuple[str, ...]] = {
    "recolor": ("make {t} {v}", "paint {t} {v}", "turn {t} {v}", "change the colour of {t} to {v}"),
    "remove": ("remove {t}", "delete {t}", "erase {t}", "take {t} away"),
    "add": ("add {w} {z}", "put {w} {z}", "insert {w} {z}", "place {w} {z}"),  # "draw" asks for a new picture
    "background": ("make the background {v}", "paint the background {v}", "change the background to {v}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The words for an edit, and the edit where there is a scene."""

    kind: EditKind
    edit: Edit | None = None
    thing: str = ""  # "the leftmost circle"
    value: str = ""  # "blue"
    new: str = ""  # "a blue star"
    where: str = ""  # "in the top left corner"

    @property
    def name(self) -> str:
        """The phrase of its link, in one form whatever the person's verb: "make the red circle blue"."""
        forms = {
            "recolor": f"make {self.thing} {self.value}",
            "remove": f"remove {self.thing}",
            "add": f"add {self.new} {self.where}",
            "background": f"make the background {self.value}",
        }
        return forms[self.kind]

    def said(self, group: str) -> str:
        """The words of a slot."""
        return {"t": self.thing, "v": self.value, "w": self.new, "z": self.where}[group]

    def order(self, rng: Random) -> str:
        """The whole change in the words of an order."""
        form = rng.choice(_ORDERS[self.kind])
        return form.format(t=self.thing, v=self.value, w=self.new, z=self.where)


def edit(rng: Random, split: Split, world: World) -> Sample | None:
    """A picture and what it should become; its task is "edit/recolor" and so on."""
    change = changed(rng, world)
    if change is None:
        return None
    kind = change.kind
    text = worded(rng, "edit", split, kind, lambda group, form: change.said(group))
    if change.edit is None:
        return one_round(text, answer([("[EDIT]", change.name)]), None, task=f"edit/{kind}")
    image = world.pixels(change.edit.before)
    return one_round(
        text,
        answer([("[EDIT]", change.name)]),
        image,
        targets=(Target(token="[EDIT]", artifact=Picture(pixels=world.pixels(change.edit.after))),),
        task=f"edit/{kind}",
    )


def changed(rng: Random, world: World) -> Change | None:
    """A change of a scene with few, large objects and clean colours."""
    kind = rng.choices(_KINDS, _ODDS)[0]
    if not world.is_drawn and rng.random() < told.SHARE:
        return spoken(rng, kind)
    for _ in range(_TRIES):
        fresh = world.another(rng, objects=(1, MOST_OBJECTS), clean=True, least=LEAST_SIZE)
        found = sample_edit(fresh.scene, numbers(rng), kind)
        change = None if found is None else _worded(rng, fresh, found)
        if change is not None:
            return change
    return None


def spoken(rng: Random, kind: EditKind) -> Change:
    """A change in words alone, of anything."""
    if kind == "background":
        return Change(kind=kind, value=told.color(rng))
    if kind == "add":
        return Change(kind=kind, new=told.addition(rng), where=told.place(rng))
    return Change(kind=kind, thing=told.referent(rng), value=told.color(rng))


def _worded(rng: Random, world: World, found: Edit) -> Change | None:
    value = said_color(rng, found.color) if found.color else ""
    if found.item is None:
        return Change(kind=found.kind, edit=found, value=value)
    if found.kind != "add":
        thing = referent(rng, world.source, found.item)
        return (
            None
            if thing is None
            else Change(kind=found.kind, edit=found, thing=thing.said_the(rng), value=value)
        )
    item = found.item
    new = described(said_shape(rng, item.shape), color=said_color(rng, item.color)).name
    if item.row and item.column:
        where = rng.choice(PLACES[f"{item.row} {item.column}"])
    else:
        half = item.row or item.column
        where = rng.choice(HALVES[half]) if half else "in the middle"
    return Change(kind=found.kind, edit=found, new=f"{article(new)} {new}", where=where)
