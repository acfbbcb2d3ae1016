"""Samples of the shapes world: a conversation, a picture, and what its decoders should answer.

    ShapesSamples(1000, seed=3)[17]    # with a rendered scene and targets
    TextSamples(1000, seed=3)[17]      # words only, thousands a second; on request with any scene in front

The same (seed, index, split) always gives the same sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.instructions.answers import answer, expected_routing
from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.mix import ShapesMix, conversation, corpus, rounds
from superlink.workflows.data.instructions.tasks import PhraseSource, Request
from superlink.workflows.data.instructions.vocabulary import Vocabulary
from superlink.workflows.data.instructions.words import COLORS, SHAPES
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.data.scene_phrases import ScenePhrases, set_of
from superlink.workflows.data.scene_tasks import SCENE_TASKS, SPOKEN_TASKS, World
from superlink.workflows.data.scene_tasks.looks import everything
from superlink.workflows.data.scene_tasks.prompts import prompt_for
from superlink.workflows.data.shapes import Scene, SceneConfig, SceneObject

_TOLD = SceneConfig(height=96, width=96)  # scenes that are only spoken of: the smaller, the faster made

__all__ = ["ClassSamples", "ShapesMix", "ShapesSamples", "TextSamples", "corpus", "expected_routing"]


class TextSamples:
    """Conversations without pictures: routing is learned from words alone.

    Args:
        length: number of samples.
        seed: of the stream.
        split: "train" draws from the templates for training, "heldout" from the others only.
        mix: how often each task is drawn.
        pictures: every conversation begins with a scene that has nothing to do with its words. A router that
            answers questions about pictures would otherwise answer in words wherever there is one.

    Raises:
        DataError: the mix has tasks whose answers only a picture gives.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        split: Split = "train",
        mix: ShapesMix | None = None,
        pictures: SceneConfig | None = None,
    ) -> None:
        self._length = length
        self._seed = seed
        self._split: Split = split
        self._mix = mix or ShapesMix()
        self._pictures = pictures
        self._source = Vocabulary(self._mix.open_share)
        unseen = sorted(set(self._mix.scene_tasks) - SPOKEN_TASKS)
        if unseen:
            raise DataError(
                f"words alone do not answer {', '.join(unseen)}; give these tasks to ShapesSamples instead"
            )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        said = self._said(index)
        if self._pictures is None:
            return said
        scene = Scene.generate(scene_seed(f"unseen:{self._split}", self._seed, index), self._pictures)
        return _behind(scene, said)

    def _said(self, index: int) -> Sample:
        rng = _stream("text", self._seed, self._split, index, self._length)
        source = f"text:{self._split}:{self._seed}:{index}"
        turns = None
        while turns is None:
            task = self._mix.draw(rng)
            if task in SCENE_TASKS:
                world = World(seed=rng.getrandbits(62), config=_TOLD, is_drawn=False)
                sample = SCENE_TASKS[task](rng, self._split, world)
                if sample is not None:
                    return _without_picture(replace(sample, source=source))
                continue
            turns = rounds(rng, task, self._split, self._source, unsaid=self._mix.unsaid)
        return Sample(
            conversation=conversation(turns),
            image=None,
            targets=(),
            task=turns[-1].task,
            source=source,
        )


class ShapesSamples:
    """Conversations about rendered scenes, with targets for every decoder call.

    Args:
        length: number of samples.
        seed: of the stream; scenes of different seeds or splits are different.
        split: "train" draws from the templates for training, "heldout" from the others only.
        mix: how often each task is drawn.
        scenes: what scenes are drawn from.
        masks: label boxes with masks too, so that every answer teaches the mask branch.
        painted: side of pictures to be made, in pixels.
        single: pictures to be made show one thing alone.
        targets: False = the router sees the pictures, and there is nothing for decoders to see or learn;
            instead the samples tell what is shown.

    Some tasks look for another scene where that of the index does not offer what they ask for.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        split: Split = "train",
        mix: ShapesMix | None = None,
        scenes: SceneConfig | None = None,
        masks: bool = False,
        painted: int = 128,
        single: bool = False,
        targets: bool = True,
    ) -> None:
        self._length = length
        self._seed = seed
        self._split: Split = split
        self._mix = mix or ShapesMix()
        self._scenes = scenes or SceneConfig()
        self._masks = masks
        self._painted = painted
        self._single = single
        self._has_targets = targets

    def __len__(self) -> int:
        return self._length

    def scene(self, index: int) -> Scene:
        """The scene of an index."""
        return self._world(index).scene

    def _world(self, index: int) -> World:
        return World(
            seed=scene_seed(self._split, self._seed, index),
            config=self._scenes,
            masks=self._masks,
            painted=self._painted,
            single=self._single,
        )

    def __getitem__(self, index: int) -> Sample:
        sample = self._drawn(index)
        return sample if self._has_targets else replace(sample, image=None, targets=())

    def _drawn(self, index: int) -> Sample:
        rng = _stream("shapes", self._seed, self._split, index, self._length)
        name = f"shapes:{self._split}:{self._seed}:{index}"
        world = self._world(index)
        is_open = rng.random() < self._mix.open_share / 3
        turns = None
        while turns is None:
            task = self._mix.draw(rng)
            if task in SCENE_TASKS:
                sample = SCENE_TASKS[task](rng, self._split, world)
                if sample is not None:
                    return replace(sample, source=name)
                continue
            scene = world.scene
            found = ScenePhrases(scene, is_open=is_open)
            # Without targets nobody asks what the phrases select.
            source: PhraseSource = found if self._has_targets else Vocabulary(self._mix.open_share)
            marked = _marked(rng, scene) if task == "region" else []
            turns = rounds(
                rng,
                task,
                self._split,
                source,
                many=True,
                regions=len(marked),
                unsaid=self._mix.unsaid,
            )
        image = scene.image()
        first = Message(
            role="user",
            text="",
            images=(image,),
            prompts=tuple(prompt_for(rng, item) for item in marked),
        )
        return Sample(
            conversation=conversation(turns, first),
            image=image,
            targets=_targets(found, turns[-1].requests, marked, masks=self._masks),
            task=turns[-1].task,
            source=name,
            shown=None if self._has_targets else everything(scene),
        )


class ClassSamples:
    """Scenes that are asked for every shape and every colour by name: what a backbone learns classes from.

    Args:
        length: number of samples.
        seed: of the stream.
        split: scenes of different splits are different.
        scenes: what scenes are drawn from.
    """

    def __init__(
        self, length: int, *, seed: int = 0, split: Split = "train", scenes: SceneConfig | None = None
    ) -> None:
        self._length = length
        self._seed = seed
        self._split: Split = split
        self._scenes = scenes or SceneConfig()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        scene = Scene.generate(scene_seed(f"classes:{self._split}", self._seed, index), self._scenes)
        groups: dict[str, Sequence[SceneObject]] = {name: scene.select(shape=name) for name in set_of(SHAPES)}
        groups |= {name: scene.select(color=name) for name in set_of(COLORS)}
        reply = answer([("[DET]", name) for name in groups])
        return Sample(
            conversation=(
                Message(role="user", text="Find everything."),
                Message(role="assistant", text=reply),
            ),
            image=scene.image(),
            targets=(Target(token="[DET]", artifact=scene.boxes(groups)),),
            task="classes",
            source=f"classes:{self._split}:{self._seed}:{index}",
        )


def scene_seed(stream: str, seed: int, index: int) -> int:
    """Seed of a scene; streams of different names or seeds do not share scenes."""
    return (zlib.crc32(f"{stream}:{seed}".encode()) << 31) + index


def _without_picture(sample: Sample) -> Sample:
    messages = tuple(replace(message, images=(), prompts=()) for message in sample.conversation)
    return replace(sample, conversation=messages, image=None, targets=())


def _behind(scene: Scene, sample: Sample) -> Sample:
    """The same words with a picture in front."""
    first, *others = sample.conversation
    return replace(sample, conversation=(replace(first, images=(scene.image(),)), *others), unseen=True)


def _targets(
    source: ScenePhrases, requests: Sequence[Request], marked: Sequence[SceneObject], *, masks: bool
) -> tuple[Target, ...]:
    """One target for every routing token, in order of first use."""
    regions = {f"region{k}": [item] for k, item in enumerate(marked, start=1)}
    groups: dict[str, dict[str, Sequence[SceneObject]]] = {}
    for request in requests:
        name = request.phrase.name
        items = regions.get(name) or source.objects(request.phrase)
        groups.setdefault(request.token, {})[name] = items
    return tuple(
        Target(
            token=token,
            artifact=(source.scene.masks(group) if masks or token == "[SEG]" else source.scene.boxes(group)),
        )
        for token, group in groups.items()
    )


def _marked(rng: Random, scene: Scene) -> list[SceneObject]:
    """The objects that the person clicks on."""
    count = min(rng.choices((1, 2, 3), (80, 16, 4))[0], len(scene.objects))
    return rng.sample(scene.objects, count)


def _stream(kind: str, seed: int, split: Split, index: int, length: int) -> Random:
    if not 0 <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return Random(f"{kind}:{seed}:{split}:{index}")
