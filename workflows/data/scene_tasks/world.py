"""What a task about a scene draws from, and how its templates become sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np

from superlink.decoders.artifacts import Boxes, Masks
from superlink.router.messages import ImageArray, Message, Prompt
from superlink.workflows.data.instructions.grammar import SLOT, Split, draw
from superlink.workflows.data.instructions.tasks import dressed, finished
from superlink.workflows.data.samples import Look, Sample, Target
from superlink.workflows.data.scene_phrases import ScenePhrases
from superlink.workflows.data.shapes import Scene, SceneConfig, SceneObject


class OnlyScene(Exception):
    """What is asked for does not fit the only scene there is."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One scene, and how to draw others.

    Scenes are made when they are first looked at: what needs none costs none.
    """

    seed: int  # of the scene
    config: SceneConfig
    masks: bool = False  # label boxes with masks too
    painted: int = 128  # side of pictures to be made, in pixels
    single: bool = False  # pictures to be made show one thing alone
    is_drawn: bool = True  # False: blank pixels, where only words matter
    is_only: bool = False  # True: there is no other scene to look at

    @cached_property
    def scene(self) -> Scene:
        return Scene.generate(self.seed, self.config)

    @cached_property
    def source(self) -> ScenePhrases:
        """Phrases about the scene."""
        return ScenePhrases(self.scene)

    def another(
        self,
        rng: Random,
        *,
        objects: tuple[int, int] | None = None,
        shapes: Sequence[str] | None = None,
        colors: Sequence[str] | None = None,
        least: float | None = None,
        clean: bool = False,
    ) -> World:
        """A world with another scene.

        Raises:
            OnlyScene: there is to be no other.

        Args:
            objects: least and largest number of them.
            shapes: what the scene is made of; a colour or shape that stands twice is drawn more often.
            colors: as `shapes`.
            least: size of an object, in sides of the picture.
            clean: without blur, noise and compression.
        """
        if self.is_only:
            raise OnlyScene
        fewest, most = objects or (self.config.min_objects, self.config.max_objects)
        config = replace(
            self.config,
            min_objects=fewest,
            max_objects=most,
            min_size=max(least or 0.0, self.config.min_size),
            effects=0.0 if clean else self.config.effects,
            shapes=tuple(shapes or self.config.shapes),
            colors=tuple(colors or self.config.colors),
        )
        return replace(self, seed=rng.getrandbits(62), config=config)

    def pixels(self, scene: Scene) -> ImageArray:
        """(H, W, 3) the picture of a scene of this world."""
        return scene.image() if self.is_drawn else np.zeros((*scene.size, 3), np.uint8)

    def target(self, token: str, scene: Scene, groups: Mapping[str, Sequence[SceneObject]]) -> Target:
        """Boxes or masks of every group, as the token asks for."""
        artifact: Boxes | Masks = scene.boxes(groups)
        if self.masks or token == "[SEG]":
            artifact = scene.masks(groups)
        return Target(token=token, artifact=artifact)


# A sample of one task, without its source; None where the scene does not offer what is needed.
Teller = Callable[[Random, Split, World], Sample | None]
# The words of a slot, by its group and form: {t:it} is ("t", "it").
Said = Callable[[str, str], str]


def worded(rng: Random, name: str, split: Split, section: str | None, said: Said) -> str:
    """A random sentence of a template file, its slots said by `said` in reading order."""
    skeleton = dressed(rng, draw(rng, name, split, section), split)
    return finished(rng, SLOT.sub(lambda slot: said(slot[1], slot[2]), skeleton), split)


def one_round(
    text: str,
    reply: str,
    image: ImageArray | None,
    *,
    task: str,
    targets: tuple[Target, ...] = (),
    prompts: tuple[Prompt, ...] = (),
    answer: str | None = None,
    shown: Masks | None = None,
    looks: tuple[Look, ...] = (),
) -> Sample:
    """A sample of one question and its reply.

    Args:
        image: (H, W, 3) what the question is about; None = nothing is shown.
        answer: the bare answer, where the reply is words alone.
        shown: everything in the picture.
        looks: what words are about, in terms of `shown`.
    """
    images = () if image is None else (image,)
    return Sample(
        conversation=(
            Message(role="user", text=text, images=images, prompts=prompts),
            Message(role="assistant", text=reply),
        ),
        image=image,
        targets=targets,
        task=task,
        answer=answer,
        shown=shown,
        looks=looks,
    )


def numbers(rng: Random) -> np.random.Generator:
    """A generator of numpy that follows from `rng`."""
    return np.random.default_rng(rng.getrandbits(63))
