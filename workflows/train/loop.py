"""The training loop of one worker.

A step: samples, their encoding, one small sum over workers (label tokens, objects), forward and backward
of every micro-batch, one sum of gradients, one update. Randomness of a step is seeded by (seed, step,
rank), so a resumed run draws what the unbroken one would have drawn.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from superlink.router.errors import InputError, TrainError
from superlink.workflows.data.samples import Sample
from superlink.workflows.train import checkpoint
from superlink.workflows.train.average import RunningAverage
from superlink.workflows.train.beginning import alike, begin_as
from superlink.workflows.train.collective import Collective, average_gradients
from superlink.workflows.train.config import Stage, TrainConfig
from superlink.workflows.train.data import Mixture, StepBatches, batches
from superlink.workflows.train.hardest import hardest
from superlink.workflows.train.identity import run_identity
from superlink.workflows.train.kept_links import KEPT_LINKS
from superlink.workflows.train.looks import LOOKS
from superlink.workflows.train.lora import add_adapters, merge_adapters
from superlink.workflows.train.metrics import MetricsWriter, StepLog, Stopwatch
from superlink.workflows.train.module import JointBatch, JointModule
from superlink.workflows.train.optimizer import build_optimizer, match, set_lr, set_trainable, stage_lr
from superlink.workflows.train.validation import validation_losses

CHECKPOINTS, MODEL = "checkpoints", "model"
SETTLED, SETTLED_AT_ONCE = 512, 16  # samples that the scale of latents is measured on

Evaluation = Callable[[JointModule, int], Mapping[str, float]]
"""Called with the module and the number of steps done, on the first worker alone."""


def _never() -> bool:
    return False


class TrainLoop:
    """One worker's part of a run."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        collective: Collective,
        device: torch.device,
        resume: bool = True,
        evaluation: Evaluation | None = None,
    ) -> None:
        """Build the modules and, where there is one, take up the newest checkpoint.

        Args:
            folder: of the run; the first worker writes there, all of them read checkpoints.
            resume: False = start at step 0 whatever the folder holds.
            evaluation: in place of the teacher-forced losses on `config.validation`.
        """
        self.config, self.folder = config, folder
        self.collective, self.device = collective, device
        torch.manual_seed(config.seed)  # fresh weights are the same on every worker
        self.module = config.system.build().to(device)
        if device.type == "cpu":
            attend_plainly(self.module)
        self.adapters = None if config.lora is None else add_adapters(self.module, config.lora)
        self.optimizer = build_optimizer(self.module, config)
        self.average = (
            None
            if config.average is None
            else RunningAverage(self.module, config.average.globs, decay=config.average.decay)
        )
        self.module.train()
        names = [name for name, _ in self.module.named_parameters()]
        for stage in config.stages:  # a mistake is told now, not when its stage begins
            alike(self.module, stage.begins_as)
            match(stage.trainable, names)
        self.step = 0
        self.identity = run_identity(config)  # once: data that grows while it is learned is not this run's
        found = checkpoint.checkpoints(folder / CHECKPOINTS) if resume else []
        holds = config.loss_weights.get(KEPT_LINKS, 0.0) > 0
        if config.weights is not None and (holds or not found):
            checkpoint.begin_with(self.module, config.weights)
            if self.average is not None:
                self.average.restart(self.module)
        if holds:
            self.module.hold_links(
                config.kept_links_share
            )  # of what the run began with, also where it is taken up again
        if any(config.loss_weights.get(name, 0.0) > 0 for name in LOOKS):
            self.module.teach_looking(config.looking)
        if found:
            self.step = checkpoint.load(
                found[-1][1],
                module=self.module,
                optimizer=self.optimizer,
                average=self.average,
                identity=self.identity,
            )
        self.evaluation = evaluation or self._validation()
        self.watch = Stopwatch()
        self.trainable: list[nn.Parameter] = []
        self._writer: MetricsWriter | None = None
        self._log = StepLog(self.module.loss_names)

    def run(self, stop: Callable[[], bool] = _never) -> bool:
        """Train to the end, or to the step at which any worker's `stop()` says so.

        Returns:
            True when all steps are done; the model folder is written then.

        Raises:
            TrainError: a loss or gradient that is not finite.
        """
        if self.collective.rank == 0:
            self._writer = MetricsWriter(
                self.folder, first_step=self.step, tensorboard=self.config.tensorboard
            )
        try:
            while self.step < self.config.steps:
                index, done = self.config.stage_at(self.step)
                if not self._stage(index, done, stop):
                    return False
            self._finish()
        finally:
            if self._writer is not None:
                self._writer.close()
        return True

    def _stage(self, index: int, done: int, stop: Callable[[], bool]) -> bool:
        stage = self.config.stages[index]
        if not self.module.gives(stage.lesson):
            raise InputError(
                f"stage {stage.name!r} has lesson={stage.lesson!r}, but no decoder of this system has "
                f"{stage.lesson}_loss; leave the stage out or use lesson='all'"
            )
        names = set(set_trainable(self.module, stage.trainable))
        self.trainable = [p for name, p in self.module.named_parameters() if name in names]
        self.module.set_image_side(stage.image_side)
        if done == 0:
            self._begin(stage)
        for step, samples in enumerate(self._batches(stage, index, done), start=done):
            stopped = self.train_step(stage, step, samples, stop)
            self.step += 1
            if stage.lesson == "pictures" and step + 1 == stage.steps:
                self._settle(stage, index)
            if self._due(self.config.log_every):
                self._write_log(stage)
            if self._due(self.config.eval_every) and self.collective.rank == 0:
                self._evaluate()
            if stopped or self._due(self.config.checkpoint_every) or self.step == self.config.steps:
                self._save()
            if stopped and self.step < self.config.steps:
                return False
        return True

    def _begin(self, stage: Stage) -> None:
        """Give the stage's parts the weights that they begin with, and their averages the same."""
        given = begin_as(self.module, stage.begins_as)
        if self.average is not None and given:
            self.average.restart(self.module, given)

    def _settle(self, stage: Stage, index: int) -> None:
        """Fit the scale of latents to the stage's first pictures, the same ones on every worker."""
        mixture = self._mixture(stage, index)
        self.module.settle(
            self.module.prepare([mixture[first + row] for row in range(SETTLED_AT_ONCE)], lesson=stage.lesson)
            for first in range(0, SETTLED, SETTLED_AT_ONCE)
        )
        if self.average is not None:
            self.average.restart(self.module)  # whatever was learned on other latents is of no use

    def train_step(self, stage: Stage, step: int, samples: list[Sample], stop: Callable[[], bool]) -> bool:
        """One update from this worker's samples; whether any worker asked to stop.

        Args:
            step: within the stage.
        """
        torch.manual_seed(step_seed(self.config.seed, self.step, self.collective.rank))
        size = stage.micro_batch or self.config.micro_batch or len(samples)
        if stage.hardest < 1:
            with self.watch("choose"), self._autocast():
                samples = hardest(self.module, samples, stage.hardest, at_once=size)
        samples = sorted(samples, key=self.module.row_length)  # padding costs as much as words
        chunks = [samples[start : start + size] for start in range(0, len(samples), size)]
        with self.watch("prepare"):
            prepared = [self.module.prepare(chunk, salt=self.step, lesson=stage.lesson) for chunk in chunks]
            counts, stopped = self._global_counts(prepared, stop())
        losses: dict[str, Tensor] = {}
        for batch in prepared:
            with self._autocast():
                terms = self.module(batch, counts, self.watch)
                total = self.module.total(terms, self.config.loss_weights)
            with self.watch("backward"):
                if total.requires_grad:  # not where nothing in this share of the batch can learn
                    total.backward()
            for name, value in {**terms, "total": total}.items():
                losses[name] = losses.get(name, 0.0) + value.detach()
        with self.watch("update"):
            average_gradients(self.trainable, self.collective)
            norm = float(nn.utils.clip_grad_norm_(self.trainable, self.config.clip))
            if not math.isfinite(norm):
                self._not_finite(norm, losses, prepared)
            set_lr(self.optimizer, stage_lr(stage, step))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.average.update(self.module)
        self._log.add(losses, norm, samples=len(samples) * self.collective.world, active=counts)
        return stopped

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.autocast)

    def _global_counts(self, prepared: Sequence[JointBatch], stop: bool) -> tuple[dict[str, float], bool]:
        """What each loss is divided by; whether any worker asked to stop.

        Decoders that are idle, or that a loss would teach nothing, are absent.
        """
        frozen = {name for name in self.module.decoders if not self.module.learns(name)}
        names = [name for name in self.module.counted if name not in frozen]
        sums = [sum(batch.counts.get(name, 0.0) for batch in prepared) for name in names]
        active = [float(any(name in batch.counts for batch in prepared)) for name in names]
        vector = torch.tensor([*sums, *active, float(stop)], dtype=torch.float64, device=self.device)
        self.collective.sum(vector)
        values = vector.tolist()
        counts = {
            # The floor acts on the whole sum; one worker and many then divide by the same number.
            name: max(values[i], 1.0) / self.collective.world
            for i, name in enumerate(names)
            if values[len(names) + i] > 0
        }
        return counts, values[-1] > 0

    def _batches(self, stage: Stage, index: int, done: int) -> Iterator[list[Sample]]:
        dataset = StepBatches(
            self._mixture(stage, index),
            global_batch=stage.global_batch or self.config.global_batch,
            rank=self.collective.rank,
            world=self.collective.world,
            text_only=stage.lesson == "words",
        )
        source = batches(dataset, range(done, stage.steps), prefetch=self.config.prefetch)
        while True:
            with self.watch("data"):
                samples = next(source, None)
            if samples is None:
                return
            yield samples

    def _mixture(self, stage: Stage, index: int) -> Mixture:
        return Mixture(stage.mixture, self.config.seed * 1_000 + index)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _write_log(self, stage: Stage) -> None:
        record = self._log.take(self.collective, self.device)
        seconds = self.watch.take()
        if self._writer is not None:
            spent = sum(seconds.values())
            steps = record.pop("steps")
            record["samples_per_second"] = round(record.pop("samples") / max(spent, 1e-9), 3)
            record["seconds_per_step"] = {name: round(value / steps, 5) for name, value in seconds.items()}
            record["lr"] = self.optimizer.param_groups[-1]["lr"] / self.optimizer.param_groups[-1]["scale"]
            self._writer.write("train", self.step, {"stage": stage.name, **record})

    def _validation(self) -> Evaluation | None:
        if not self.config.validation or self.collective.rank != 0:
            return None
        mixture = Mixture(self.config.validation, self.config.seed)
        samples = [mixture[position] for position in range(self.config.validation_samples)]
        size = self.config.micro_batch or self.config.global_batch // self.config.workers

        def evaluate(module: JointModule, step: int) -> Mapping[str, float]:
            return validation_losses(module, samples, batch=size, loss_weights=self.config.loss_weights)

        return evaluate

    def _evaluate(self) -> None:
        if self.evaluation is not None and self._writer is not None:
            averaged = nullcontext() if self.average is None else self.average.applied(self.module)
            with averaged:
                losses = self.evaluation(self.module, self.step)
            self._writer.write("validation", self.step, {"losses": dict(losses)})

    def _save(self) -> None:
        if self.collective.rank == 0:
            checkpoint.save(
                self.folder / CHECKPOINTS,
                step=self.step,
                module=self.module,
                optimizer=self.optimizer,
                average=self.average,
                identity=self.identity,
                keep=self.config.keep,
            )
        self.collective.barrier()

    def _finish(self) -> None:
        if self.average is not None:
            self.average.copy_to(self.module)
        if self.adapters is not None:
            merge_adapters(self.adapters)
        if self.collective.rank == 0:
            self.module.set_image_side(None)
            part = self.folder / f".{MODEL}.part"
            shutil.rmtree(part, ignore_errors=True)
            self.config.system.export(self.module.eval(), part)
            shutil.rmtree(self.folder / MODEL, ignore_errors=True)
            part.rename(self.folder / MODEL)
        self.collective.barrier()

    def _not_finite(self, norm: float, losses: Mapping[str, Tensor], prepared: Sequence[JointBatch]) -> None:
        bad = [name for name, value in losses.items() if not math.isfinite(float(value))]
        sources = [source for batch in prepared for source in batch.sources][:8]
        raise TrainError(
            f"step {self.step}: the gradient's norm is {norm}; losses of this worker that are not finite: "
            f"{', '.join(bad) or 'none'}; samples {', '.join(sources)}; try a lower learning rate"
        )


def attend_plainly(module: JointModule) -> None:
    """Attend by plain products: at sizes that a CPU can train, two thirds of the fused kernels' time."""
    module.router.language.set_attn_implementation("eager")
    module.router.vision_tower.set_attn_implementation("eager")
    for part in module.decoders.modules():
        if isinstance(part, AttentionMixin):
            part.set_attn_processor(AttnProcessor())


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of everything random in one step of one worker."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
