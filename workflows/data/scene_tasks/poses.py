"""People and their keypoints: object phrases with [DET], then keypoint phrases with [POSE]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import EVERYONE, Phrase, described, joined, listed
from superlink.workflows.data.instructions.vocabulary import singled_out
from superlink.workflows.data.instructions.words import COLORS, SHAPES, SIZES, SUPERLATIVES
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_phrases import said_color, said_size
from superlink.workflows.data.scene_tasks.world import World, one_round, worded
from superlink.workflows.data.shapes import SHAPES as DRAWN
from superlink.workflows.data.shapes.people import KEYPOINT_NAMES

KEYPOINTS = tuple(name.replace("_", " ") for name in KEYPOINT_NAMES)  # as people say them, in COCO's order
_NOUNS = tuple(noun for noun, shape in SHAPES.items() if shape == "person")


def _both(*joints: str) -> tuple[str, ...]:
    return tuple(f"{side} {joint}" for joint in joints for side in ("left", "right"))


# Words for several keypoints at once.
PARTS: dict[str, tuple[str, ...]] = {
    **{f"{joint}s": _both(joint) for joint in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee")},
    "ankles": _both("ankle"),
    "face": ("nose", *_both("eye", "ear")),
    "arms": _both("shoulder", "elbow", "wrist"),
    "legs": _both("hip", "knee", "ankle"),
}


def pose(rng: Random, split: Split, world: World) -> Sample:
    """The keypoints of people, all seventeen or those that were asked for."""
    for _ in range(4):
        if not world.is_drawn or world.scene.select(shape="person") or rng.random() < 0.1:
            break
        world = world.another(rng, shapes=("person", "person", "person", *DRAWN))
    people = _people(rng, world) if world.is_drawn else _spoken(rng)
    is_all = rng.random() < 0.5
    said, keypoints = ([], KEYPOINTS) if is_all else keypoints_asked(rng)

    def words(group: str, form: str) -> str:
        if group == "p":
            is_everyone = not world.is_drawn and [one.name for one in people] == ["person"]
            return rng.choice(EVERYONE) if is_everyone and rng.random() < 0.4 else listed(rng, people, form)
        return joined(rng, [part if form == "bare" else f"the {part}" for part in said])

    text = worded(rng, "pose", split, "all" if is_all else "some", words)
    reply = pose_answer([phrase.name for phrase in people], keypoints)
    if not world.is_drawn:
        return one_round(text, reply, None, task="pose")
    scene = world.scene
    found = scene.keypoints({phrase.name: world.source.objects(phrase) for phrase in people})
    order = [KEYPOINTS.index(name) for name in keypoints]
    image = world.pixels(scene)
    return one_round(
        text,
        reply,
        image,
        targets=(
            Target(
                token="[POSE]",
                artifact=replace(found, xyv=found.xyv[:, order], keypoint_names=tuple(keypoints)),
            ),
        ),
        task="pose",
    )


def pose_answer(objects: Sequence[str], keypoints: Sequence[str]) -> str:
    """ "Here they are:<det> person</det>[DET] with<det> nose</det>[POSE],<det> left eye</det>[POSE]." """
    named = ",".join(f"<det> {name}</det>[DET]" for name in objects)
    return f"Here they are:{named} with" + ",".join(f"<det> {name}</det>[POSE]" for name in keypoints) + "."


def _people(rng: Random, world: World) -> list[Phrase]:
    """All people most often; those of a colour or size, or one of them."""
    people = world.scene.select(shape="person")
    noun = "person" if rng.random() < 0.6 else rng.choice(_NOUNS)
    kind = rng.random()
    plain = described(noun)
    if kind < 0.5 or not people:
        return [plain]
    if kind < 0.65 and len(people) > 1:
        one = world.source.one_of(rng, [plain])
        return [plain] if one is None else [one[0]]
    if kind < 0.75:
        sized = described(noun, size=said_size(rng, rng.choice(people).size))
        return [sized if world.source.objects(sized) else plain]
    phrases = {
        phrase.name: phrase
        for item in people
        for phrase in [described(noun, color=said_color(rng, item.color))]
    }
    if kind > 0.93:  # nobody of that colour is there
        absent = described(noun, color=rng.choice(tuple(COLORS)))
        phrases[absent.name] = absent
    return rng.sample(list(phrases.values()), min(rng.choice((1, 1, 2)), len(phrases)))


def _spoken(rng: Random) -> list[Phrase]:
    """People of any description, one of them now and then; nobody looks whether they are there."""
    found: dict[str, Phrase] = {}
    for _ in range(rng.choices((1, 2, 3), (82, 14, 4))[0]):
        kind = rng.random()
        noun = "person" if rng.random() < 0.5 else rng.choice(_NOUNS)
        size = rng.choice(tuple(SIZES)) if rng.random() < 0.25 else ""
        color = rng.choice(tuple(COLORS)) if kind > 0.45 else ""
        phrase = described(noun, color=color, size=size)
        if kind > 0.85:
            phrase = singled_out(rng, phrase, rng.choice(tuple(SUPERLATIVES)))
        elif kind < 0.08:
            noun = rng.choice(("woman", "child", "girl", "boy", "player", "dancer", "runner", "skier", "kid"))
            phrase = Phrase(noun=noun)
        found.setdefault(phrase.name, phrase)
    return list(found.values())


def keypoints_asked(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    """What is said and which keypoints it means, in the order of asking."""
    count = rng.choices((1, 2, 3, 4), (40, 30, 20, 10))[0]
    said = rng.sample((*PARTS, *KEYPOINTS), count)
    means = [name for part in said for name in PARTS.get(part, (part,))]
    return said, tuple(dict.fromkeys(means))
