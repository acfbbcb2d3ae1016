"""Several orders in one sentence, each in words of its own: "box the stars, then outline the man"."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from superlink.router.messages import Message
from superlink.workflows.data.instructions import surface
from superlink.workflows.data.instructions.answers import Routed, answer
from superlink.workflows.data.instructions.grammar import SLOT, Split, draw, parse, tidy
from superlink.workflows.data.instructions.tasks import PhraseSource, fill, finished
from superlink.workflows.data.instructions.vocabulary import Vocabulary
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks.changes import changed
from superlink.workflows.data.scene_tasks.paintings import asked_for
from superlink.workflows.data.scene_tasks.world import World, one_round
from superlink.workflows.data.shapes import SceneObject

_OPEN = 0.15  # share of spoken orders about things outside the shapes world
_FINDING = ("detect", "segment", "ground")
_ODDS = {"detect": 30, "segment": 24, "ground": 12, "edit": 22, "generate": 12}
_JOINTS = (
    *(
        "{}, then {}",
        "{}, then {}",
        "{} and then {}",
        "{} and {}",
        "{} and {}",
        "{}, and {}",
        "{}. {}",
        "{}; {}",
    ),
    *("first {}, then {}", "{}, and also {}", "{}. after that {}", "{}. then {}", "{}, {}", "{}. also {}"),
    *("{}, afterwards {}", "{} and finally {}", "{}, plus {}", "1. {} 2. {}", "- {}\n- {}", "{}\n{}"),
    *("two things: {} and {}", "{} but also {}", "start with this: {}. next {}", "{} & {}", "{}. and {}"),
    *("{}, next {}", "{} and after that {}", "{}. once that is done, {}", "{}, {} too", "{} and {} as well"),
)
_POLITE = 0.3
_SHORT = 0.35  # share of orders to find in a few words
_SHORTEST = {
    "detect": ("<find> {d:the}", "<find> {d:all}", "<find> {d:many}", "(find|box|detect) {d:the}"),
    "segment": (
        "<segment> {s:the}",
        "<segment> {s:all}",
        "<segment> {s:many}",
        "(segment|outline|mask) {s:the}",
        "<segment> {r:the}",
    ),
    "ground": ("<find> {g:the}", "(find|box|show) {g:the}"),
}
_ALIKE = 0.3  # share of further orders in the words of the one before: "find the stars, find the hearts"
_IN_ROUNDS = 0.4
_Order = tuple[str, list[Routed]]
_Targets = dict[str, dict[str, Sequence[SceneObject]]]


def several(rng: Random, split: Split, world: World) -> Sample | None:
    """Two orders, sometimes three, in one sentence or, where nothing is drawn, in rounds of their own.

    Of a scene that is drawn only what can be found in it is asked for.
    """
    kinds = _FINDING if world.is_drawn else tuple(_ODDS)
    source: PhraseSource = world.source if world.is_drawn else Vocabulary(_OPEN)
    targets: _Targets = {}
    orders: list[_Order] = []
    skeletons: dict[str, str] = {}  # the last of each kind
    for _ in range(rng.choices((2, 3), (82, 18))[0]):
        (kind,) = rng.choices(kinds, [_ODDS[kind] for kind in kinds])
        found = kind in _FINDING
        if found:
            if split == "heldout" or kind not in skeletons or rng.random() >= _ALIKE:
                skeletons[kind] = _skeleton(rng, split, kind)
            order = _found(rng, world, source, skeletons[kind], targets)
        else:
            order = _made(rng, split, world, kind)
        if order is None:
            return None
        orders.append(order)
    if not world.is_drawn and rng.random() < _IN_ROUNDS:
        return _rounds(rng, split, orders)
    routed = [one for _, asked in orders for one in asked]
    if len(set(routed)) < len(routed):  # "find the stars, then find the stars"
        return None
    text = orders[0][0]
    for words, _ in orders[1:]:
        text = rng.choice(_JOINTS).format(text, words)
    if rng.random() < _POLITE:
        text = surface.wrapped(rng, text, split, imperative=True)
    return one_round(
        finished(rng, text, split),
        answer(routed),
        world.pixels(world.scene) if world.is_drawn else None,
        targets=tuple(world.target(token, world.scene, groups) for token, groups in targets.items()),
        task="several",
    )


def _rounds(rng: Random, split: Split, orders: Sequence[_Order]) -> Sample:
    messages: list[Message] = []
    for words, routed in orders:
        is_wrapped = rng.random() < _POLITE
        text = surface.wrapped(rng, words, split, imperative=True) if is_wrapped else words
        messages += [
            Message(role="user", text=finished(rng, text, split)),
            Message(role="assistant", text=answer(routed)),
        ]
    return Sample(conversation=tuple(messages), image=None, targets=(), task="several")


def _skeleton(rng: Random, split: Split, kind: str) -> str:
    """An order to find something, its slots open; held-out ones are never the short ones of training."""
    if split == "train" and rng.random() < _SHORT:
        return parse(rng.choice(_SHORTEST[kind])).sample(rng)
    section = "imperative" if rng.random() < 0.8 else "free"
    return tidy(draw(rng, kind, split, section).body.sample(rng))


def _found(
    rng: Random, world: World, source: PhraseSource, skeleton: str, targets: _Targets
) -> _Order | None:
    """Something to find or to outline; what it selects is put into `targets`."""
    slots = fill(rng, surface.with_typo(rng, skeleton), source, many=False)
    if slots is None:
        return None
    text, requests = slots
    if world.is_drawn:
        for one in requests:
            targets.setdefault(one.token, {})[one.phrase.name] = world.source.objects(one.phrase)
    return text, [(one.token, one.phrase.name) for one in requests]


def _made(rng: Random, split: Split, world: World, kind: str) -> _Order | None:
    """A change, or a new picture."""
    if kind == "edit":
        change = changed(rng, world)
        if change is None:
            return None
        if rng.random() < 0.5:
            return change.order(rng), [("[EDIT]", change.name)]
        skeleton = draw(rng, "edit", split, change.kind).body.sample(rng)
        return tidy(SLOT.sub(lambda slot: change.said(slot[1]), skeleton)), [("[EDIT]", change.name)]
    words, name = asked_for(rng, world)
    skeleton = draw(rng, "generate", split, "imperative").body.sample(rng)
    return tidy(SLOT.sub(lambda slot: words, skeleton)), [("[GEN]", name)]
