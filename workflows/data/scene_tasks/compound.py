"""Sentences that need two decoders: "find the people and paint a blue star"."""

from __future__ import annotations

from random import Random

from superlink.decoders.artifacts import Picture
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import SLOT, Split, draw
from superlink.workflows.data.instructions.phrases import Phrase, listed
from superlink.workflows.data.instructions.tasks import AMONG, dressed, finished
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_phrases import ScenePhrases
from superlink.workflows.data.scene_tasks.changes import changed
from superlink.workflows.data.scene_tasks.paintings import painting
from superlink.workflows.data.scene_tasks.world import World, one_round

_FOUND = {"d": "[DET]", "s": "[SEG]"}


def compound(rng: Random, split: Split, world: World) -> Sample | None:
    """Boxes or masks of classes together with a new picture, or with a change of the one that is there."""
    skeleton = dressed(rng, draw(rng, "compose", split), split)
    slots = list(SLOT.finditer(skeleton))
    change = changed(rng, world) if any(slot[1] == "e" for slot in slots) else None
    if change is None and any(slot[1] == "e" for slot in slots):
        return None
    scene = world.scene if change is None else change.edit.before
    source = ScenePhrases(scene)
    text, end = "", 0
    routed: list[tuple[str, str]] = []
    targets: list[Target] = []
    for slot in slots:
        if slot[1] in _FOUND:
            token = _FOUND[slot[1]]
            phrases: list[Phrase] = source.classes(rng, rng.choices(*AMONG)[0])
            words = listed(rng, phrases, slot[2])
            routed += [(token, phrase.name) for phrase in phrases]
            targets.append(
                world.target(token, scene, {phrase.name: source.objects(phrase) for phrase in phrases})
            )
        elif change is not None:
            words = change.order(rng)
            routed.append(("[EDIT]", change.name))
            targets.append(Target(token="[EDIT]", artifact=Picture(pixels=world.pixels(change.edit.after))))
        else:
            made = painting(rng, world.painted, single=world.single)
            words = made.words
            routed.append(("[GEN]", made.name))
            targets.append(Target(token="[GEN]", artifact=Picture(pixels=world.pixels(made.scene))))
        text += skeleton[end : slot.start()] + words
        end = slot.end()
    image = world.pixels(scene)
    return one_round(
        finished(rng, text + skeleton[end:], split),
        answer(routed),
        image,
        targets=tuple(targets),
        task="compose",
    )
