"""Conversations of two to four rounds about one scene, in which every round turns to another task.

"Find the circles." → "How many of them are large?" → "Outline the large ones." The last round is the
one to learn; what it refers to follows from the rounds before and from the scene alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from superlink.router.messages import Message
from superlink.workflows.data.instructions.answers import routing_of
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks import follow_up_changes as changes
from superlink.workflows.data.scene_tasks import follow_up_counts as counts
from superlink.workflows.data.scene_tasks import follow_ups
from superlink.workflows.data.scene_tasks.answers import short_answer
from superlink.workflows.data.scene_tasks.changes import LEAST_SIZE, MOST_OBJECTS
from superlink.workflows.data.scene_tasks.openings import OPENINGS
from superlink.workflows.data.scene_tasks.talk import Round, Talk
from superlink.workflows.data.scene_tasks.world import World
from superlink.workflows.data.shapes import COLOR_NAMES
from superlink.workflows.data.shapes import SHAPES as DRAWN

_TRIES = 12
_CAN_CHANGE = 0.4  # share of conversations about scenes that edits can be made of
_ALIKE = 0.6  # share of scenes in which few kinds stand several times

FollowUp = Callable[[Random, Split, Talk], Round | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A follow-up, what it does, and how often it is drawn where it can be."""

    follow_up: FollowUp
    does: str  # rounds of one conversation do different things where they can
    weight: float


FOLLOW_UPS: dict[str, Offer] = {
    "count": Offer(follow_up=counts.count, does="count", weight=8),
    "count some": Offer(follow_up=counts.count_some, does="count", weight=12),
    "count named": Offer(follow_up=counts.count_named, does="count", weight=8),
    "count colour": Offer(follow_up=counts.count_color, does="count", weight=4),
    "count left": Offer(follow_up=counts.count_left, does="count again", weight=40),
    "count now": Offer(follow_up=counts.count_now, does="count again", weight=20),
    "find one": Offer(follow_up=partial(follow_ups.one, token="[GRD]"), does="find one", weight=10),
    "segment one": Offer(follow_up=partial(follow_ups.one, token="[SEG]"), does="segment", weight=12),
    "find them": Offer(follow_up=partial(follow_ups.them, token="[DET]"), does="find", weight=5),
    "segment them": Offer(follow_up=partial(follow_ups.them, token="[SEG]"), does="segment", weight=8),
    "color": Offer(follow_up=follow_ups.color, does="color", weight=7),
    "what": Offer(follow_up=follow_ups.what, does="what", weight=16),
    "place": Offer(follow_up=follow_ups.place, does="place", weight=5),
    "like": Offer(follow_up=follow_ups.like, does="find", weight=8),
    "like colour": Offer(follow_up=follow_ups.like_color, does="find", weight=5),
    "find named": Offer(follow_up=follow_ups.named_found, does="find", weight=10),
    "find one named": Offer(follow_up=follow_ups.named_one, does="find", weight=16),
    "mark": Offer(follow_up=follow_ups.mark, does="what", weight=4),
    "pose": Offer(follow_up=changes.joints, does="pose", weight=30),
    "recolor": Offer(follow_up=partial(changes.change, kind="recolor"), does="edit", weight=24),
    "remove": Offer(follow_up=partial(changes.change, kind="remove"), does="edit", weight=16),
    "chat": Offer(follow_up=follow_ups.chat, does="chat", weight=5),
}


def follow_up(rng: Random, split: Split, world: World) -> Sample | None:
    """Two to four rounds; its task is "follow_up/count" and so on, after its last round."""
    rounds = told(rng, split, world)
    if rounds is None:
        return None
    messages: list[Message] = []
    shown = None
    for one in rounds:
        # A picture that an edit has made is what the next round looks at, and is shown with it.
        images = () if one.seen is shown else (world.pixels(one.seen),)
        shown = one.seen
        messages += [
            Message(role="user", text=one.text, images=images, prompts=one.prompts),
            Message(role="assistant", text=one.reply),
        ]
    last = rounds[-1]
    return Sample(
        conversation=tuple(messages),
        image=world.pixels(last.seen),
        targets=last.targets,
        task=f"follow_up/{last.kind}",
        answer=None if routing_of(last.reply) else short_answer(last.reply),
    )


def told(rng: Random, split: Split, world: World) -> list[Round] | None:
    """The rounds of one conversation; the last one is never chat. None where nothing follows."""
    count = rng.choices((2, 3, 4), (35, 40, 25))[0]
    first = None
    for _ in range(_TRIES):
        name = rng.choices(list(OPENINGS), [weight for _, weight in OPENINGS.values()])[0]
        can_change = rng.random() < _CAN_CHANGE
        seen = _scene_for(rng, name, world, can_change)
        first = OPENINGS[name][0](rng, split, Talk(world=seen, scene=seen.scene, can_change=can_change))
        if first is not None:
            break
    if first is None:
        return None
    rounds = [first]
    while len(rounds) < count:
        found = _next(rng, split, rounds, is_last=len(rounds) == count - 1)
        if found is None:
            return None
        rounds.append(found)
    return rounds


def _scene_for(rng: Random, opening: str, world: World, can_change: bool) -> World:
    """A world whose scene has what an opening needs, and often several of a kind."""
    shapes: Sequence[str] | None = None
    colors: Sequence[str] | None = None
    if opening == "finding people":
        shapes = ("person", "person", "person", *rng.sample(DRAWN, 2))
    elif rng.random() < _ALIKE:
        shapes = rng.sample(DRAWN, rng.choice((1, 2, 3)))
        colors = rng.sample(COLOR_NAMES, rng.choice((2, 3, 4)))
    if can_change:
        return world.another(
            rng, shapes=shapes, colors=colors, objects=(2, MOST_OBJECTS), clean=True, least=LEAST_SIZE
        )
    if shapes is None:
        return world
    return world.another(rng, shapes=shapes, colors=colors, objects=(3, world.config.max_objects))


def _next(rng: Random, split: Split, rounds: Sequence[Round], *, is_last: bool) -> Round | None:
    """A follow-up that does what no round before did; only where there is none, something again."""
    done = {FOLLOW_UPS[one.kind].does if one.kind in FOLLOW_UPS else one.kind for one in rounds}
    # Exponential clocks: names in an order drawn by weight.
    names = sorted(FOLLOW_UPS, key=lambda name: rng.expovariate(FOLLOW_UPS[name].weight))
    names = [name for name in names if name != "chat" or not (is_last or rounds[-1].kind == "chat")]
    for name in sorted(names, key=lambda name: FOLLOW_UPS[name].does in done):
        found = FOLLOW_UPS[name].follow_up(rng, split, rounds[-1].talk)
        if found is not None:
            return found
    return None
