"""In-context examples: pictures with one thing marked, then a picture in which the same is wanted.

The marks are drawn onto the examples (all pictures then stand in one message), or they are visual
prompts (each example is then a round of its own). Format after the multimodal in-context data of
VisionLLM v2: the last picture is the one that is asked about, one class, boxes or masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from superlink.router.examples import NOTED
from superlink.router.messages import ImageArray, Message
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split, word_list
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.marks import MARKS, marked
from superlink.workflows.data.scene_tasks.prompts import prompt_for
from superlink.workflows.data.scene_tasks.world import World, worded
from superlink.workflows.data.shapes import COLOR_NAMES, Scene, SceneObject
from superlink.workflows.data.shapes import SHAPES as DRAWN

_ALIKE = {"same kind": 0.5, "same shape": 0.25, "same colour": 0.25}
_ABSENT = 0.12  # share of last pictures that have nothing of the kind
_SCENES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What examples have in common; None = anything."""

    shape: str | None
    color: str | None

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape or 'object'}" if self.color else str(self.shape)

    def of(self, scene: Scene) -> tuple[SceneObject, ...]:
        return scene.select(shape=self.shape, color=self.color)


def in_context(rng: Random, split: Split, world: World) -> Sample | None:
    """One to three examples, then boxes or masks of the same kind in the last picture."""
    alike = rng.choices(list(_ALIKE), list(_ALIKE.values()))[0]
    kind = _chosen(rng, world.scene, alike)
    shown = [_example(rng, world, kind) for _ in range(rng.choices((1, 2, 3), (45, 35, 20))[0])]
    examples = [(one, rng.choice(kind.of(one.scene))) for one in shown if one is not None]
    if not examples:
        return None
    token = rng.choice(("[DET]", "[SEG]"))
    image = world.pixels(world.scene)
    is_drawn = rng.random() < 0.5
    mark = rng.choice(MARKS)
    drawn = [
        marked(rng, one.pixels(one.scene), item, mark) if is_drawn else one.pixels(one.scene)
        for one, item in examples
    ]
    slots = {
        "k": rng.choice(word_list(alike)),
        "n": rng.choice(word_list(f"drawn {mark}")) if is_drawn else "marked",
    }
    text = worded(
        rng, "in_context", split, "masked" if token == "[SEG]" else "found", lambda group, form: slots[group]
    )
    if is_drawn:
        messages = [Message(role="user", text=text, images=(*drawn, image))]
    else:
        messages = []
        for (_, item), picture in zip(examples, drawn, strict=True):
            messages += _round(rng, split, picture, item)
        messages.append(Message(role="user", text=text, images=(image,)))
    return Sample(
        conversation=(*messages, Message(role="assistant", text=answer([(token, kind.name)]))),
        image=image,
        targets=(world.target(token, world.scene, {kind.name: kind.of(world.scene)}),),
        task="in_context",
    )


def _round(rng: Random, split: Split, picture: ImageArray, item: SceneObject) -> list[Message]:
    said = worded(rng, "in_context", split, "example", lambda group, form: "")
    prompts = (prompt_for(rng, item),)
    return [
        Message(role="user", text=said, images=(picture,), prompts=prompts),
        Message(role="assistant", text=NOTED),
    ]


def _chosen(rng: Random, scene: Scene, alike: str) -> _Kind:
    item = rng.choice(scene.objects)
    shape, color = item.shape, item.color
    if rng.random() < _ABSENT:
        shape, color = rng.choice(DRAWN), rng.choice(COLOR_NAMES)
    return _Kind(
        shape=None if alike == "same colour" else shape, color=None if alike == "same shape" else color
    )


def _example(rng: Random, world: World, kind: _Kind) -> World | None:
    """A world whose scene has something of the kind, among other things."""
    shapes = None if kind.shape is None else (kind.shape, *rng.sample(DRAWN, 2))
    colors = None if kind.color is None else (kind.color, *rng.sample(COLOR_NAMES, 2))
    for _ in range(_SCENES):
        other = world.another(rng, shapes=shapes, colors=colors)
        if kind.of(other.scene):
            return other
    return None
