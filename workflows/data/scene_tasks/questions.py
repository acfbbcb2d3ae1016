"""Questions about a scene that are answered in words; every answer of a kind is about equally frequent.

The answer is drawn first, then a scene and words for it: yes or no, one of twelve colours, one of nine
shapes, a side or corner, a number from zero to six.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from superlink.workflows.data.instructions.grammar import Split, word_list
from superlink.workflows.data.instructions.phrases import Phrase, described, listed
from superlink.workflows.data.instructions.words import COLORS, GENERIC, SHAPES, article
from superlink.workflows.data.samples import Look, Sample
from superlink.workflows.data.scene_phrases import said_color, said_shape, set_of
from superlink.workflows.data.scene_tasks.answers import COUNTED, short_answer
from superlink.workflows.data.scene_tasks.looks import Spoken, everything, looks_at
from superlink.workflows.data.scene_tasks.referents import pairs, referent
from superlink.workflows.data.scene_tasks.world import World, one_round, worded
from superlink.workflows.data.shapes import COLOR_NAMES, SceneObject
from superlink.workflows.data.shapes import SHAPES as DRAWN

KINDS = ("yes-no", "color", "shape", "position", "count")
MOST_COUNTED = 6
_SCENES = 10  # looked at for one answer
_SAID_RELATIONS = {
    "left": ("left of", "to the left of", "further left than"),
    "right": ("right of", "to the right of", "further right than"),
    "above": ("above", "over", "higher up than"),
    "below": ("below", "under", "further down than"),
}
_FURTHER = {
    "left": ("further left", "more to the left", "closer to the left edge"),
    "right": ("further right", "more to the right", "closer to the right edge"),
    "above": ("higher up", "higher", "closer to the top"),
    "below": ("lower", "further down", "closer to the bottom"),
}
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_WHERE = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "above": "above",
    "below": "below",
}

Asked = tuple[str, dict[str, Sequence[Phrase] | str], str]  # section, what fills its slots, reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question in words, and what it is about."""

    text: str
    reply: str
    world: World  # that it is about: another one where the first did not suit
    spoken: tuple[Spoken, ...]  # phrases, of things that may not be there

    def looks(self, message: int = 0) -> tuple[Look, ...]:
        """What its phrases are about, and its whole reply, where it stands at `message`."""
        items = {item.index: item for _, found in self.spoken for item in found}
        scene = self.world.scene
        answer: list[Spoken] = [(self.reply[:-1], [*items.values()])]  # all but its full stop
        asked = looks_at(message, self.text, self.spoken, scene)
        return (*asked, *looks_at(message + 1, self.reply, answer, scene, names=False))


def question(rng: Random, split: Split, world: World) -> Sample | None:
    """A question of any kind, all kinds equally often; its task is "vqa/color" and so on."""
    kind = rng.choice(KINDS)
    found = asked(rng, split, world, kind)
    if found is None:
        return None
    seen = found.world
    return one_round(
        found.text,
        found.reply,
        seen.pixels(seen.scene),
        task=f"vqa/{kind}",
        answer=short_answer(found.reply),
        shown=everything(seen.scene),
        looks=found.looks(),
    )


def asked(rng: Random, split: Split, world: World, kind: str) -> Question | None:
    """A question of one of `KINDS`; None where no scene suits it."""
    found = _ASKED[kind](rng, world)
    if found is None:
        return None
    (section, slots, reply), seen = found
    spoken: list[Spoken] = []

    def said(group: str, form: str) -> str:
        words = slots[form if group == "z" else group]
        if isinstance(words, str):
            return words
        text = listed(rng, words, form)
        items = {item.index: item for phrase in words for item in seen.source.objects(phrase)}
        spoken.append((text, [*items.values()]))
        return text

    text = worded(rng, "vqa", split, section, said)
    return Question(text=text, reply=reply, world=seen, spoken=tuple(spoken))


def _yes_no(rng: Random, world: World) -> tuple[Asked, World] | None:
    wanted = rng.random() < 0.5
    ask = rng.choices((_exists, _attribute, _relation), (50, 25, 25))[0]
    for _ in range(_SCENES):
        found = ask(rng, world, wanted)
        if found is not None:
            section, slots = found
            return (section, slots, "Yes." if wanted else "No."), world
        world = world.another(rng)
    return None


def _exists(rng: Random, world: World, wanted: bool) -> tuple[str, dict[str, Sequence[Phrase] | str]] | None:
    for _ in range(30):
        (phrase,) = world.source.classes(rng, 1)
        if bool(world.source.objects(phrase)) == wanted:
            return "exist", {"q": [phrase]}
    return None


def _attribute(
    rng: Random, world: World, wanted: bool
) -> tuple[str, dict[str, Sequence[Phrase] | str]] | None:
    item = rng.choice(world.scene.objects)
    is_color = rng.random() < 0.6
    thing = referent(rng, world.source, item, color=not is_color, shape=is_color)
    if thing is None:
        return None
    own = item.color if is_color else item.shape
    others = {other.color if is_color else other.shape for other in world.scene.objects} - {own}
    # What another object has is the likelier mistake.
    if not others or rng.random() < 0.4:
        others = {*(COLOR_NAMES if is_color else DRAWN)} - {own}
    value = own if wanted else rng.choice(sorted(others))
    if is_color:
        return "attribute", {"t": [thing], "v": said_color(rng, value)}
    noun = said_shape(rng, value)
    return "attribute", {"t": [thing], "v": f"{article(noun)} {noun}"}


def _relation(
    rng: Random, world: World, wanted: bool
) -> tuple[str, dict[str, Sequence[Phrase] | str]] | None:
    relation = rng.choice(tuple(_OPPOSITE))
    found = _pair(rng, world, relation if wanted else _OPPOSITE[relation])
    if found is None:
        return None
    one, other = found
    return "relation", {"t": [one], "u": [other], "relation": rng.choice(_SAID_RELATIONS[relation])}


def _pair(rng: Random, world: World, relation: str) -> tuple[Phrase, Phrase] | None:
    """Two objects, said without their places, of which the first is `relation` of the second."""
    options = list(pairs(world.scene, relation))
    rng.shuffle(options)
    for one, other in options[:6]:
        said = [referent(rng, world.source, item, place=False) for item in (one, other)]
        if said[0] is not None and said[1] is not None:
            return said[0], said[1]
    return None


def _color(rng: Random, world: World) -> tuple[Asked, World] | None:
    wanted = rng.choice(COLOR_NAMES)
    for _ in range(_SCENES):
        for item in world.scene.select(color=wanted):
            thing = referent(rng, world.source, item, color=False)
            if thing is not None:
                return ("color", {"t": [thing]}, f"It is {wanted}."), world
        world = world.another(rng, colors=(wanted, *rng.sample(COLOR_NAMES, 3)))
    return None


def _shape(rng: Random, world: World) -> tuple[Asked, World] | None:
    wanted = rng.choice(DRAWN)
    for _ in range(_SCENES):
        for item in world.scene.select(shape=wanted):
            thing = referent(rng, world.source, item, shape=False)
            if thing is not None:
                return ("shape", {"t": [thing]}, f"It is a {wanted}."), world
        world = world.another(rng, shapes=(wanted, *rng.sample(DRAWN, 3)))
    return None


def _position(rng: Random, world: World) -> tuple[Asked, World] | None:
    ask = rng.choices((_side, _corner, _beside, _further), (40, 20, 20, 20))[0]
    wanted: str = rng.choice(
        ("left", "right", "top", "bottom")
        if ask is _side
        else ("top left", "top right", "bottom left", "bottom right")
        if ask is _corner
        else tuple(_OPPOSITE)
    )
    for _ in range(_SCENES):
        found = ask(rng, world, wanted)
        if found is not None:
            return found, world
        world = world.another(rng)
    return None


def _placed(rng: Random, world: World, fits: Callable[[SceneObject], bool]) -> Phrase | None:
    items = [item for item in world.scene.objects if fits(item)]
    rng.shuffle(items)
    said = (referent(rng, world.source, item, place=False) for item in items)
    return next((phrase for phrase in said if phrase is not None), None)


def _side(rng: Random, world: World, wanted: str) -> Asked | None:
    thing = _placed(rng, world, lambda item: wanted in (item.column, item.row))
    if thing is None:
        return None
    choice = rng.choice(word_list("left or right" if wanted in ("left", "right") else "top or bottom"))
    return "side", {"t": [thing], "or": choice}, f"It is {_WHERE[wanted]}."


def _corner(rng: Random, world: World, wanted: str) -> Asked | None:
    thing = _placed(rng, world, lambda item: f"{item.row} {item.column}" == wanted)
    return None if thing is None else ("corner", {"t": [thing]}, f"It is in the {wanted}.")


def _beside(rng: Random, world: World, wanted: str) -> Asked | None:
    found = _pair(rng, world, wanted)
    if found is None:
        return None
    lists = ("beside", "beside of") if wanted in ("left", "right") else ("over", "over of")
    choice, joint = (rng.choice(word_list(name)) for name in lists)
    slots: dict[str, Sequence[Phrase] | str] = {"t": [found[0]], "u": [found[1]], "or": choice, "pair": joint}
    return "pair", slots, f"It is {_WHERE[wanted]}."


def _further(rng: Random, world: World, wanted: str) -> Asked | None:
    found = _pair(rng, world, wanted)
    if found is None:
        return None
    first, second = found if rng.random() < 0.5 else found[::-1]
    slots: dict[str, Sequence[Phrase] | str] = {
        "t": [first],
        "u": [second],
        "further": rng.choice(_FURTHER[wanted]),
    }
    return "which", slots, f"It is the {found[0].name}."


def _count(rng: Random, world: World) -> tuple[Asked, World] | None:
    wanted = rng.randrange(MOST_COUNTED + 1)
    for _ in range(_SCENES):
        phrase = _counted(rng, world, wanted)
        if phrase is not None:
            return ("count", {"q": [phrase]}, f"I count {COUNTED[wanted]}."), world
        alike = rng.random()  # of one shape, of one colour, or of both
        world = world.another(
            rng,
            objects=(max(wanted, 1), min(wanted + 3, 9)),
            shapes=rng.sample(DRAWN, 1 if alike < 0.6 else 9),
            colors=rng.sample(COLOR_NAMES, 1 if alike > 0.4 else 12),
        )
    return None


def _counted(rng: Random, world: World, wanted: int) -> Phrase | None:
    """A class of which the scene has so many."""
    if wanted == 0:
        found = [phrase for phrase in world.source.classes(rng, 8) if not world.source.objects(phrase)]
        return rng.choice(found) if found else None
    shapes = {said_shape(rng, shape) for shape in set_of(SHAPES)}
    colors = {said_color(rng, color) for color in set_of(COLORS)}
    shapes = {noun for noun in shapes if world.scene.select(shape=SHAPES[noun])}
    colors = {color for color in colors if world.scene.select(color=COLORS[color])}
    options = [[described(noun) for noun in sorted(shapes)]]
    options += [[described(noun, color=color) for noun in sorted(shapes) for color in sorted(colors)]]
    options += [[described(rng.choice(GENERIC), color=color) for color in sorted(colors)]]
    options += [[described(rng.choice(GENERIC))]]
    rng.shuffle(options)
    for phrases in options:
        fitting = [phrase for phrase in phrases if len(world.source.objects(phrase)) == wanted]
        if fitting:
            return rng.choice(fitting)
    return None


_ASKED: dict[str, Callable[[Random, World], tuple[Asked, World] | None]] = {
    "yes-no": _yes_no,
    "color": _color,
    "shape": _shape,
    "position": _position,
    "count": _count,
}
