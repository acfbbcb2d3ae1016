"""What one training run is: a frozen value that a function returns and a person can read.

Nothing here imports torch, so that the command line can list recipes in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from superlink.router.errors import InputError

if TYPE_CHECKING:
    from superlink.workflows.data.samples import Dataset
    from superlink.workflows.train.module import JointModule


class SystemSource(Protocol):
    """Where the modules to train come from, and how they are written for serving."""

    def build(self) -> JointModule:
        """The router and its decoders, with the weights to start from."""

    def export(self, module: JointModule, folder: Path) -> None:
        """A model folder that `superlink.load` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One part of a mixture. `open` runs in every worker, so it must be picklable: a class, a partial."""

    name: str
    open: Callable[[], Dataset]
    weight: float = 1.0  # relative to the other sources of the mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamGroup:
    """Parameters whose name matches `glob`; the first group that matches takes a parameter."""

    glob: str  # "router.vision.*"
    lr: float = 1.0  # times the stage's learning rate
    weight_decay: float | None = None  # None = the run's
    muon: bool = False  # layers learn by Muon, see optimizer.py; not for tables of words


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021) in the router's language model, through peft."""

    r: int = 32
    alpha: int = 64
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """A running average of the weights that match, which validation and the exported model get."""

    globs: tuple[str, ...]  # "decoders.stable_diffusion.unet.*"
    decay: float = 0.999  # of one step, after the first ones

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise InputError(
                f"the decay of a running average must be at least 0 and below 1, such as 0.999; "
                f"got {self.decay}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The same heads of some layers of a language model, counted from 0."""

    layers: tuple[int, ...]
    heads: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.layers or not self.heads:
            raise InputError(f"name at least one layer and one head, got {self.layers} and {self.heads}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Which heads learn where to look, see looks.py. Phrases come first: later layers read what they saw."""

    phrase_looks: Heads = Heads(layers=(1,), heads=(1, 2))
    phrase_counts: Heads = Heads(layers=(2, 4), heads=(2, 3))
    phrase_names: int = 3  # the layer after which phrases tell what they have seen
    answer_reads: Heads = Heads(layers=(2, 3), heads=(0, 1))
    answer_looks: Heads = Heads(layers=(5, 7), heads=(0, 1))

    @property
    def layers(self) -> frozenset[int]:
        parts = (self.phrase_looks, self.phrase_counts, self.answer_reads, self.answer_looks)
        return frozenset((self.phrase_names, *(layer for part in parts for layer in part.layers)))


Lesson = Literal["all", "words", "patches", "cells", "pictures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of a run with its own data, learning rate and trainable parameters.

    The schedule is linear warm-up, then a cosine from `lr` to `floor` x `lr`, over this stage.
    """

    name: str
    steps: int
    mixture: tuple[Source, ...]
    lr: float
    warmup: int = 0  # steps
    floor: float = 0.02  # last learning rate as a fraction of `lr`; 1.0 = constant after warm-up
    trainable: tuple[str, ...] = ("*",)  # globs; adapters are always trainable
    image_side: int | None = None  # side that decoders see pictures at; None = their own
    global_batch: int | None = None  # None = the run's
    micro_batch: int | None = None  # None = the run's
    # "words": the language loss without pictures, prompts and decoders. "patches": visual tokens name what
    # is at their place, and the language model does not run. "cells": decoders that can do so teach their
    # backbones alone, and no language is learned. "pictures": so for autoencoders of painters, which learn
    # in no other lesson; the latents' scale is right when the stage ends.
    lesson: Lesson = "all"
    # Share of rows without pictures to see that are learned: the hardest ones, see hardest.py. Each worker
    # chooses among its own rows, so one worker and two learn other rows of the same batch.
    hardest: float = 1.0
    # Parts that begin this stage with the weights that other parts have then, by their names:
    # {"decoders.instruct_pix2pix.unet": "decoders.stable_diffusion.unet"}; see beginning.py.
    begins_as: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.mixture:
            raise InputError(f"stage {self.name!r} needs at least one step and one source")
        if any(source.weight <= 0 for source in self.mixture):
            raise InputError(f"stage {self.name!r}: every source needs a weight above 0")
        if not 0 < self.hardest <= 1:
            raise InputError(
                f"stage {self.name!r}: hardest must be above 0 and at most 1, got {self.hardest}"
            )
        if self.hardest < 1 and self.lesson not in ("all", "words"):
            raise InputError(
                f"stage {self.name!r}: lesson {self.lesson!r} learns no sentences to choose from"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One run: stages one after the other, with one optimiser."""

    name: str
    system: SystemSource
    stages: tuple[Stage, ...]
    global_batch: int  # samples of one step, over all workers
    micro_batch: int | None = None  # samples of one forward pass of one worker; None = all of them
    workers: int = 1
    threads: int = 1  # of each worker on a CPU; workers, not threads, share out the cores
    use_gpu: bool = False
    autocast: bool = False  # bfloat16 where torch finds it safe; weights stay float32
    groups: tuple[ParamGroup, ...] = ()
    weight_decay: float = 0.01  # of matrices; vectors (norms, biases) are never decayed
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0  # largest norm of the gradient of all parameters
    lora: Lora | None = None
    average: Average | None = None
    # "language", a decoder, "<decoder>.cells" or "<decoder>.pictures" (1 if absent); "link_words",
    # "patch_words" and "kept_links" (0 if absent, see the files of these names), and those of looks.py.
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    looking: Looking = Looking()  # where one of looks.py has a weight
    kept_links_share: float = 1.0  # of the passes in which links are compared with what they were
    # What a fresh run begins with, whatever `system` built: a folder with some or all of the weights that a
    # checkpoint holds, by the same names. A resumed run goes on from its own.
    weights: Path | None = None
    validation: tuple[Source, ...] = ()  # mixture for teacher-forced losses; empty = none
    validation_samples: int = 64
    log_every: int = 10  # steps
    eval_every: int = 200
    checkpoint_every: int = 200
    keep: int = 2  # newest checkpoints that stay on disk
    prefetch: int = 0  # processes of each worker that make samples ahead; 0 = inline
    seed: int = 0
    tensorboard: bool = True

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError(f"run {self.name!r} needs at least one stage")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise InputError(f"stages need different names, got {names}")
        if not 0 < self.kept_links_share <= 1:
            raise InputError(f"kept_links_share must be above 0 and at most 1, got {self.kept_links_share}")
        if self.workers < 1:
            raise InputError(f"a run needs at least 1 worker, got {self.workers}")
        for stage in self.stages:
            batch = stage.global_batch or self.global_batch
            if batch % self.workers:
                raise InputError(
                    f"a global batch of {batch} (stage {stage.name!r}) cannot be split over "
                    f"{self.workers} workers; use a multiple of {self.workers}"
                )

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Index of the stage that holds a step of the run, and the step within that stage."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        raise InputError(f"run {self.name!r} has {self.steps} steps, asked for one {step} steps later")

    def only(self, names: Sequence[str]) -> TrainConfig:
        """The same run with some of its stages, in their order.

        Raises:
            InputError: no stage of such a name.
        """
        known = [stage.name for stage in self.stages]
        for name in names:
            if name not in known:
                raise InputError(f"run {self.name!r} has no stage {name!r}; there are {', '.join(known)}")
        return replace(self, stages=tuple(stage for stage in self.stages if stage.name in names))

    def shortened(self, steps: int) -> TrainConfig:
        """The same run in about `steps` steps: every stage, and its warm-up, in proportion."""
        factor = steps / self.steps
        stages = tuple(
            replace(stage, steps=max(1, round(stage.steps * factor)), warmup=round(stage.warmup * factor))
            for stage in self.stages
        )
        return replace(self, stages=stages)
