"""Sentences that need two decoders: "find the people and paint a blue star"."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from superlink.decoders.artifacts import Picture
from superlink.workflows.data.instructions.answers import Routed, answer
from superlink.workflows.data.instructions.grammar import SLOT, Split, draw
from superlink.workflows.data.instructions.phrases import listed
from superlink.workflows.data.instructions.tasks import AMONG, dressed, finished
from superlink.workflows.data.instructions.vocabulary import Vocabulary
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_phrases import ScenePhrases
from superlink.workflows.data.scene_tasks.changes import Change, changed
from superlink.workflows.data.scene_tasks.paintings import asked_for, painting
from superlink.workflows.data.scene_tasks.world import World, one_round

_FOUND = {"d": "[DET]", "s": "[SEG]"}
_OPEN = 0.15  # share of spoken sentences about things outside the shapes world


def compound(rng: Random, split: Split, world: World) -> Sample | None:
    """Boxes or masks of classes together with a new picture, or with a change of the one that is there."""
    skeleton = dressed(rng, draw(rng, "compose", split), split)
    is_change = any(slot[1] == "e" for slot in SLOT.finditer(skeleton))
    change = changed(rng, world) if is_change else None
    if change is None and is_change:
        return None
    return (_drawn if world.is_drawn else _spoken)(rng, split, world, skeleton, change)


def _drawn(rng: Random, split: Split, world: World, skeleton: str, change: Change | None) -> Sample:
    edit = None if change is None else change.edit
    scene = world.scene if edit is None else edit.before
    source = ScenePhrases(scene)
    targets: list[Target] = []

    def said(group: str, form: str) -> tuple[str, list[Routed]]:
        if group in _FOUND:
            phrases = source.classes(rng, rng.choices(*AMONG)[0])
            token = _FOUND[group]
            targets.append(
                world.target(token, scene, {phrase.name: source.objects(phrase) for phrase in phrases})
            )
            return listed(rng, phrases, form), [(token, phrase.name) for phrase in phrases]
        if change is not None and edit is not None:
            targets.append(Target(token="[EDIT]", artifact=Picture(pixels=world.pixels(edit.after))))
            return change.order(rng), [("[EDIT]", change.name)]
        made = painting(rng, world.painted, single=world.single)
        targets.append(Target(token="[GEN]", artifact=Picture(pixels=world.pixels(made.scene))))
        return made.words, [("[GEN]", made.name)]

    text, routed = _filled(skeleton, said)
    return one_round(
        finished(rng, text, split),
        answer(routed),
        world.pixels(scene),
        targets=tuple(targets),
        task="compose",
    )


def _spoken(rng: Random, split: Split, world: World, skeleton: str, change: Change | None) -> Sample:
    source = Vocabulary(_OPEN)

    def said(group: str, form: str) -> tuple[str, list[Routed]]:
        if group in _FOUND:
            phrases = source.classes(rng, rng.choices(*AMONG)[0])
            return listed(rng, phrases, form), [(_FOUND[group], phrase.name) for phrase in phrases]
        if change is not None:
            return change.order(rng), [("[EDIT]", change.name)]
        words, name = asked_for(rng, world)
        return words, [("[GEN]", name)]

    text, routed = _filled(skeleton, said)
    return one_round(finished(rng, text, split), answer(routed), None, task="compose")


def _filled(skeleton: str, said: Callable[[str, str], tuple[str, list[Routed]]]) -> tuple[str, list[Routed]]:
    """The sentence, and all that it asks for in reading order."""
    text, end = "", 0
    routed: list[Routed] = []
    for slot in SLOT.finditer(skeleton):
        words, asked = said(slot[1], slot[2])
        routed += asked
        text += skeleton[end : slot.start()] + words
        end = slot.end()
    return text + skeleton[end:], routed
