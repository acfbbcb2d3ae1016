"""Follow-ups that change what was found, and those for the keypoints of people that were found."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Literal

from superlink.decoders.artifacts import Picture
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import described, joined
from superlink.workflows.data.instructions.words import SHAPES
from superlink.workflows.data.samples import Target
from superlink.workflows.data.scene_phrases import said_color
from superlink.workflows.data.scene_tasks.changes import Change
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS, keypoints_asked, pose_answer
from superlink.workflows.data.scene_tasks.talk import (
    Focus,
    Round,
    Talk,
    asked,
    described_one,
    it_or_one,
    only,
)
from superlink.workflows.data.scene_tasks.world import numbers
from superlink.workflows.data.shapes.edits import Edit, recolored, removed


def change(rng: Random, split: Split, talk: Talk, *, kind: Literal["recolor", "remove"]) -> Round | None:
    """It, or one of them, in another colour or gone: the next round is about the picture without it."""
    found = it_or_one(rng, talk) if talk.can_change else None
    if found is None:
        return None
    said, focus = found
    (item,) = focus.items
    thing = described_one(talk, focus)
    edit = (
        recolored(talk.scene, item, numbers(rng))
        if kind == "recolor"
        else removed(talk.scene, item, numbers(rng))
    )
    # The last object has to stay: a scene holds one or more.
    if thing is None or edit is None or not edit.after.figures:
        return None
    done = Change(
        kind=edit.kind,
        edit=edit,
        thing=f"the {thing.name}",
        value=said_color(rng, edit.color) if edit.color else "",
    )
    # "Change the picture so that it is blue" would mean the picture.
    file = "edit" if said.startswith("the ") and rng.random() < 0.5 else "follow_up"
    text = asked(rng, split, file, kind, {"it": said, "word": done.value}, needs="it")
    if text is None:
        return None
    return Round(
        kind=kind,
        text=text,
        reply=answer([("[EDIT]", done.name)]),
        seen=talk.scene,
        talk=_changed(talk, focus, edit, done.value),
        targets=(Target(token="[EDIT]", artifact=Picture(pixels=talk.world.pixels(edit.after))),),
    )


def _changed(talk: Talk, focus: Focus, edit: Edit, value: str) -> Talk:
    """The talk about the edited scene: a recoloured object is called by its noun and new colour."""
    after = replace(
        talk, scene=edit.after, focus=None, named={}, color=edit.color, token="[EDIT]", change=edit.kind
    )
    if edit.kind == "remove":
        return after
    (item,) = focus.items
    renewed = edit.after.objects[item.index]
    noun = item.shape if focus.is_region else focus.phrase.noun
    phrase = replace(described(noun, color=value), is_one=True)
    if not only(edit.after, phrase, renewed):
        return replace(after, group=None)
    return replace(after, focus=Focus(phrase=phrase, items=(renewed,)), group=None)


def joints(rng: Random, split: Split, talk: Talk) -> Round | None:
    """Keypoints of the people that were found, all seventeen or those that are named."""
    focus = talk.focus
    if focus is None or focus.said or not focus.items or SHAPES.get(focus.phrase.noun) != "person":
        return None
    is_all = rng.random() < 0.5
    parts, keypoints = ([], KEYPOINTS) if is_all else keypoints_asked(rng)
    slots = {
        "them": focus.them(rng) if focus.is_class else rng.choice(("that one", "this one")),
        "their": "their",
        "parts": joined(rng, [f"the {part}" for part in parts]) if parts else "",
        "bare": joined(rng, parts) if parts else "",
    }
    text = asked(rng, split, "follow_up", "joints" if is_all else "some joints", slots)
    if text is None:
        return None
    name = focus.phrase.name
    found = talk.scene.keypoints({name: focus.items})
    order = [KEYPOINTS.index(one) for one in keypoints]
    target = replace(found, xyv=found.xyv[:, order], keypoint_names=tuple(keypoints))
    return Round(
        kind="pose",
        text=text,
        reply=pose_answer([name], keypoints),
        seen=talk.scene,
        talk=talk.about(focus.phrase, focus.items, token="[POSE]"),
        targets=(Target(token="[POSE]", artifact=target),),
    )
