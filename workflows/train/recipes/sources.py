"""What the recipes of the shapes world draw from: mixtures of tasks, and sources of samples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from superlink.workflows.data.scene_tasks import SCENE_TASKS
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ClassSamples, ShapesMix, ShapesSamples, TextSamples
from superlink.workflows.train.config import Source

ENDLESS = 1 << 40  # samples of a procedural source
PAINTED = 128  # side of pictures that painters learn

# Pictures that decoders look at are dear: nearly all of them go to what only these teach.
SEEING = ShapesMix(
    detect=0.34,
    ground=0.19,
    segment=0.18,
    mixed=0.11,
    nothing=0.02,
    partial=0.05,
    chat=0.02,
    region=0.05,
    dialogue=0.04,
    open_share=0.02,
)

# With a picture in front the router talks as without one only where it has learned to.
GLANCING = ShapesMix(
    detect=0.14,
    ground=0.08,
    segment=0.12,
    mixed=0.14,
    nothing=0.09,
    partial=0.08,
    chat=0.17,
    region=0.05,
    dialogue=0.18,
    open_share=0.2,
)

# Long dialogues are few: a step costs as much as its longest rows.
SPEAKING = ShapesMix(mixed=0.13, nothing=0.09, partial=0.11, chat=0.22, dialogue=0.1, open_share=0.1)

# The same three for a system of all decoders.
SEEING_ALL = ShapesMix(
    detect=0.2,
    ground=0.13,
    segment=0.14,
    mixed=0.08,
    nothing=0.01,
    partial=0.04,
    chat=0.0,
    region=0.02,
    dialogue=0.03,
    open_share=0.02,
    grounded_caption=0.04,
    pose=0.14,
    interactive=0.09,
    in_context=0.04,
    compose=0.02,
    follow_up=0.04,
    elsewhere=tuple(SCENE_TASKS),
)
# Answers in words are learned here alone: half of the samples are questions about what is to be seen.
GLANCING_ALL = ShapesMix(
    detect=0.06,
    ground=0.04,
    segment=0.05,
    mixed=0.05,
    nothing=0.03,
    partial=0.03,
    chat=0.06,
    region=0.02,
    dialogue=0.04,
    open_share=0.2,
    vqa=0.1,
    quiz=0.16,
    caption=0.07,
    grounded_caption=0.04,
    region_caption=0.05,
    recognition=0.06,
    pose=0.03,
    generate=0.03,
    edit=0.05,
    compose=0.03,
    several=0.02,
    in_context=0.03,
    interactive=0.03,
    follow_up=0.12,
)
SPEAKING_ALL = ShapesMix(
    detect=0.13,
    ground=0.08,
    segment=0.1,
    mixed=0.09,
    nothing=0.06,
    partial=0.07,
    chat=0.14,
    region=0.04,
    dialogue=0.05,
    open_share=0.1,
    pose=0.09,
    generate=0.11,
    edit=0.12,
    compose=0.08,
    several=0.07,
    elsewhere=tuple(SCENE_TASKS),
)
# What a router gets wrong last: long lists, two forms of one thing, what is to be left out, names of joints.
LISTING_ALL = replace(
    SPEAKING_ALL,
    ground=0.07,
    segment=0.12,
    mixed=0.16,
    nothing=0.07,
    partial=0.09,
    chat=0.08,
    dialogue=0.09,
    pose=0.1,
    generate=0.09,
    edit=0.1,
    compose=0.08,
    several=0.13,
    open_share=0.06,
)
PAINTING = replace(ShapesMix.only("generate"), edit=1.0)


def words(weight: float = 1.0, *, mix: ShapesMix | None = None, side: int | None = None) -> Source:
    """Conversations without pictures, or behind one of `side` pixels that has nothing to do with them."""
    pictures = SceneConfig(height=side, width=side) if side else None
    opened = partial(TextSamples, ENDLESS, mix=mix or SPEAKING, pictures=pictures)
    return Source(name=f"words-{side}" if side else "words", open=opened, weight=weight)


def pictures(side: int, weight: float = 1.0, *, mix: ShapesMix | None = None, least: float = 0.085) -> Source:
    """Conversations about scenes of `side` pixels, with things of at least `least` sides."""
    scenes = SceneConfig(height=side, width=side, min_size=least)
    opened = partial(ShapesSamples, ENDLESS, mix=mix or SEEING, scenes=scenes, masks=True)
    return Source(name=f"shapes-{side}", open=opened, weight=weight)


def glances(side: int, weight: float = 1.0, *, mix: ShapesMix | None = None) -> Source:
    """Conversations with a picture in front that only the router learns from: cheap beside `pictures`."""
    scenes = SceneConfig(height=side, width=side)
    opened = partial(ShapesSamples, ENDLESS, mix=mix or GLANCING, scenes=scenes, targets=False)
    return Source(name=f"glances-{side}", open=opened, weight=weight)


def classes(side: int, *, least: float = 0.085) -> Source:
    """Scenes of `side` pixels that are asked for every shape and colour."""
    scenes = SceneConfig(height=side, width=side, min_size=least)
    return Source(name=f"classes-{side}", open=partial(ClassSamples, ENDLESS, scenes=scenes))


def held_out(side: int, weight: float = 1.0, *, mix: ShapesMix | None = None) -> Source:
    """Scenes and wordings that no training source draws."""
    scenes = SceneConfig(height=side, width=side)
    opened = partial(ShapesSamples, 100_000, split="heldout", mix=mix, scenes=scenes)
    return Source(name="held-out", open=opened, weight=weight)


def tasks(side: int, weight: float = 1.0, *, mix: ShapesMix, name: str, least: float = 0.085) -> Source:
    """Conversations about scenes of `side` pixels, with boxes and no masks but for [SEG]."""
    scenes = SceneConfig(height=side, width=side, min_size=least)
    return Source(name=name, open=partial(ShapesSamples, ENDLESS, mix=mix, scenes=scenes), weight=weight)


def paintings(weight: float = 1.0, *, single: bool = False) -> Source:
    """Pictures of 128 pixels to be made, of one thing alone if `single`."""
    scenes = SceneConfig(height=PAINTED, width=PAINTED)
    opened = partial(
        ShapesSamples,
        ENDLESS,
        mix=ShapesMix.only("generate"),
        scenes=scenes,
        painted=PAINTED,
        single=single,
    )
    return Source(name="one-thing" if single else "paintings", open=opened, weight=weight)


def edits(weight: float = 1.0) -> Source:
    """Pictures of 128 pixels to be changed."""
    return tasks(PAINTED, weight, mix=ShapesMix.only("edit"), name="edits")
