"""Router and decoders as one module with one loss.

The router emits links, a loop runs over decoders, and neither knows the other. A decoder that no
sample of a batch asks for is not run at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from superlink.decoders.contract import Decoder
from superlink.router.batch import RouterBatch, RouterOutput, RowLink
from superlink.router.encoding import encode
from superlink.router.errors import InputError, LinkError
from superlink.router.links import LinkBatch, SuperLink
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.router.tokens import RoutingToken
from superlink.workflows.data.samples import Sample, naming
from superlink.workflows.train.config import Lesson, Looking
from superlink.workflows.train.kept_links import KEPT_LINKS, kept_links_loss
from superlink.workflows.train.link_words import LINK_WORDS, Words, link_words_loss, words_of
from superlink.workflows.train.looks import (
    LOOKS,
    LookGoal,
    Watched,
    checked_looking,
    look_goals,
    looks_terms,
    watched,
)
from superlink.workflows.train.metrics import Stopwatch
from superlink.workflows.train.patch_words import PATCH_WORDS, PatchGoal, patch_goal, patch_words_loss
from superlink.workflows.train.plan import PlannedCall, last_tokens, plan_calls, routing_tokens

LANGUAGE = "language"
# Auxiliary terms of the router, which a run asks for.
AUXILIARY = (LINK_WORDS, PATCH_WORDS, KEPT_LINKS, *LOOKS)
DEFAULT_WEIGHTS = dict.fromkeys(AUXILIARY, 0.0)
# On a CPU in bfloat16 a kernel is compiled and kept for every length of rows that occurs. 200 lengths of
# four 64-wide layers took 548 MB and four times the time of their second round; multiples of 32 took 31 MB.
LENGTHS = 16  # rows are padded to a multiple of this many positions
_LETTERS = 4  # of a token, about


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecoderWork:
    """What one decoder has to do for one batch."""

    calls: tuple[tuple[int, PlannedCall], ...]  # with the row that each belongs to
    inputs: Any  # the decoder's own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointBatch:
    """Samples, encoded and prepared, with what their losses are normalised by."""

    rows: RouterBatch
    last_tokens: tuple[tuple[RoutingToken, ...], ...]  # for each row, those of its last message
    work: Mapping[str, DecoderWork]  # only decoders with something to do
    counts: Mapping[str, float]  # label tokens under "language", objects under a decoder's name
    sources: tuple[str, ...]
    words: tuple[Words, ...]  # for each row, what its links stand for
    goals: Mapping[int, PatchGoal]  # by row, what the last tile of its last picture shows
    looks: Mapping[str, LookGoal]  # where attention should go, by the names of looks.py
    lesson: Lesson = "all"


@runtime_checkable
class HasImageSide(Protocol):
    """A decoder that can see pictures at another side than its config says."""

    image_side: int | None  # pixels; None = the config's


@runtime_checkable
class LearnsCells(Protocol):
    """A decoder whose backbone can learn classes by itself."""

    def cells_loss(self, links: LinkBatch, inputs: Any, *, count: float) -> Tensor: ...


@runtime_checkable
class LearnsPictures(Protocol):
    """A decoder whose autoencoder can learn pictures by itself; two decoders may have the same one."""

    vae: nn.Module

    def begin(self) -> None:
        """Before the first `pictures_loss` of an autoencoder that learns from nothing: its fresh weights."""

    def pictures_loss(self, inputs: Any, *, count: float) -> Tensor: ...

    def settle(self, batches: Sequence[Any]) -> None:
        """After the last `pictures_loss`: fit the latents' scale to the pictures of these inputs."""


# Lessons that a decoder gives by itself. Their terms are called "<decoder>.<lesson>".
OWN_LESSONS: Mapping[Lesson, type[Any]] = {"cells": LearnsCells, "pictures": LearnsPictures}


class JointModule(nn.Module):
    """A router, its decoders, and what turns samples into their inputs."""

    def __init__(
        self, *, router: Router, decoders: Sequence[Decoder[Any, Any]], tokenizer: RouterTokenizer
    ) -> None:
        super().__init__()
        self.router = router
        self.decoders = nn.ModuleDict({decoder.config.name: decoder for decoder in decoders})
        self.tokenizer = tokenizer
        self.configs = {decoder.config.name: decoder.config for decoder in decoders}
        self.tokens = routing_tokens(list(self.configs.values()))
        self._before: tuple[Router, ...] = ()  # in a tuple: no part of this module
        self._held_share = 1.0
        self._looking: Looking | None = None

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def learns(self, decoder: str) -> bool:
        """Whether its loss teaches anything: the decoder itself, or the router through its links."""
        parts = (self.router, self.decoder(decoder))
        return any(one.requires_grad for part in parts for one in part.parameters())

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Every term that `forward` can return, in a fixed order."""
        terms = [f"{name}/{term}" for name in self.decoders for term in self.decoder(name).weights]
        return (LANGUAGE, *AUXILIARY, *self._own_terms, *terms)

    @property
    def counted(self) -> tuple[str, ...]:
        """What losses are normalised by, in a fixed order."""
        return (LANGUAGE, *AUXILIARY, *self._own_terms, *self.decoders)

    def hold_links(self, share: float = 1.0) -> None:
        """From now on `forward` also tells how far links are from what the router makes of them now.

        Args:
            share: of the passes in training that compare, drawn at random; the others cost no second pass,
                and those that do count as much more.
        """
        self._held_share = share
        self._before = (deepcopy(self.router).eval().requires_grad_(False),)

    def teach_looking(self, looking: Looking) -> None:
        """From now on `forward` also tells how far attention is from what words are about.

        Raises:
            InputError: a layer or head that the language model does not have.
        """
        self._looking = checked_looking(looking, self.router.language)

    def gives(self, lesson: Lesson) -> bool:
        """Whether there is anybody to learn it."""
        own = OWN_LESSONS.get(lesson)
        return own is None or any(isinstance(one, own) for one in self.decoders.values())

    def set_image_side(self, side: int | None) -> None:
        """Let decoders that can see pictures at another side do so; None = as they are configured."""
        for name in self.decoders:
            decoder = self.decoder(name)
            if isinstance(decoder, HasImageSide):
                decoder.image_side = side

    def decoder(self, name: str) -> Decoder[Any, Any]:
        decoder = self.decoders[name]
        assert isinstance(decoder, Decoder)
        return decoder

    def row_length(self, sample: Sample) -> int:
        """About how many positions a conversation takes: rows that share a forward pass should be alike."""
        texts = [message.text for message in sample.conversation]
        pictures = sum(len(message.images) for message in sample.conversation)
        links = sum(
            text.count(name) * token.num_links for text in texts for name, token in self.tokens.items()
        )
        return sum(map(len, texts)) // _LETTERS + links + pictures * self.router.config.tokens_per_tile

    def prepare(self, samples: Sequence[Sample], *, salt: int = 0, lesson: Lesson = "all") -> JointBatch:
        """Encode conversations and prepare pictures and targets of every decoder.

        Args:
            samples: of any tasks, at least one.
            salt: changes the seeds that decoders get; the step of the run.
            lesson: what the batch teaches, see `Stage`.

        Raises:
            DataError: a sample whose targets do not match its routing tokens.
            InputError: one whose words or pictures the router does not take; both name the sample's source.
        """
        conversations = [sample.conversation for sample in samples]
        config = self.router.config
        try:
            rows = encode(conversations, self.tokenizer, config, training=True)
        except InputError:
            for sample in samples:  # whose it is
                with naming(sample.source):
                    encode([sample.conversation], self.tokenizer, config, training=True)
            raise
        rows = rows.padded(LENGTHS, pad=config.token_ids.pad)
        assert rows.labels is not None
        by_decoder: dict[str, list[tuple[int, PlannedCall]]] = {}
        last = []
        for row, sample in enumerate(samples):
            last.append(tuple(last_tokens(sample, self.tokens)))
            # Neither picture nor target: the words of an answer are learned without its decoders.
            if lesson not in ("words", "patches") and (sample.image is not None or sample.targets):
                with naming(sample.source):
                    calls = plan_calls(sample, self.configs, self.tokens, salt=salt)
                    for planned in calls:
                        self.configs[planned.decoder].check(planned.call)
                for planned in calls:
                    by_decoder.setdefault(planned.decoder, []).append((row, planned))
        words = tuple(words_of(sample, tuple(self.tokens), self.tokenizer) for sample in samples)
        own = OWN_LESSONS.get(lesson)
        speaks = own is None and lesson != "patches"
        counts = {LANGUAGE: float((rows.labels[:, 1:] != -100).sum())} if speaks else {}
        if speaks and (linked := sum(bool(ids) for row in words for ids in row)):
            counts[LINK_WORDS] = float(linked)
        if speaks and self._before and (held := sum(map(len, words))):
            counts[KEPT_LINKS] = float(held)
        goals = {}
        if own is None and rows.tiles is not None:
            found = (patch_goal(sample, self.tokenizer, config) for sample in samples)
            goals = {row: goal for row, goal in enumerate(found) if goal is not None}
        if goals:
            counts[PATCH_WORDS] = float(sum(len(goal.places) for goal in goals.values()))
        looks: Mapping[str, LookGoal] = {}
        if speaks and self._looking is not None:
            looks = look_goals(rows, samples, self.tokenizer, config)
            counts.update({name: float(len(goal.rows)) for name, goal in looks.items()})
        work = {}
        for name, decoder in self.decoders.items():  # in the same order on every worker
            if name in by_decoder and (own is None or isinstance(decoder, own)):
                planned_calls = [planned for _, planned in by_decoder[name]]
                inputs = self.decoder(name).prepare(
                    [planned.call for planned in planned_calls], [planned.target for planned in planned_calls]
                )
                counted = name if own is None else f"{name}.{lesson}"
                counts[counted] = self.decoder(name).count(inputs)
                work[name] = DecoderWork(calls=tuple(by_decoder[name]), inputs=inputs)
        return JointBatch(
            rows=rows.to(self.device),
            words=words,
            goals=goals,
            looks={name: goal.to(self.device) for name, goal in looks.items()},
            last_tokens=tuple(last),
            work=work,
            counts=counts,
            sources=tuple(sample.source for sample in samples),
            lesson=lesson,
        )

    def forward(
        self, batch: JointBatch, counts: Mapping[str, float], watch: Stopwatch | None = None
    ) -> dict[str, Tensor]:
        """Unweighted loss terms of one batch.

        Args:
            batch: from `prepare`.
            counts: what each loss is divided by: the global count over the number of workers, so that
                the mean over workers is the loss of the whole global batch.
            watch: takes the time of router and decoders.

        Returns:
            Scalars with graph: "language", "link_words", "patch_words", "kept_links", "<decoder>.cells" and
            the like, "<decoder>/<term>"; absent where nothing was asked.
        """
        watch = watch or Stopwatch()
        if batch.lesson == "pictures":
            with watch("decoders"):
                return self._shown_again(batch, counts)
        if batch.lesson == "patches":
            with watch("router"):
                return self._named_patches(batch, counts, None)
        terms: dict[str, Tensor] = {}
        layers = self._looking.layers if self._looking is not None and batch.looks else ()
        with watch("router"), watched(self.router.language, layers) as seen:
            output: RouterOutput = self.router(
                batch.rows, only_labelled=True, output_visual=bool(batch.goals)
            )
        if batch.lesson != "cells":
            if output.loss is not None and output.loss_count:
                terms[LANGUAGE] = output.loss * (output.loss_count / counts[LANGUAGE])
            said = link_words_loss(output.links, batch.words, self.router.language.lm_head)
            if said is not None:
                terms[LINK_WORDS] = said[0] / counts[LINK_WORDS]
            terms.update(self._kept_links(batch, counts, output))
            terms.update(self._named_patches(batch, counts, output.visual))
            terms.update(self._looks(batch, counts, seen))
        with watch("decoders"):
            for name, work in batch.work.items():
                if torch.is_grad_enabled() and not self.learns(name):
                    continue
                links = LinkBatch.of(
                    [self._links(output, batch, row, planned) for row, planned in work.calls]
                )
                decoder = self.decoder(name)
                if batch.lesson == "cells":
                    assert isinstance(decoder, LearnsCells)
                    key = f"{name}.cells"
                    terms[key] = decoder.cells_loss(links, work.inputs, count=counts[key])
                    continue
                losses = decoder.loss(decoder(links, work.inputs), work.inputs, count=counts[name])
                terms.update({f"{name}/{term}": value for term, value in losses.items()})
        return terms

    def settle(self, batches: Iterable[JointBatch]) -> None:
        """What ends `lesson="pictures"`: autoencoders that learn fit their latents' scale to these pictures.

        Raises:
            InputError: none of them is for a decoder whose autoencoder learns.
        """
        shown: dict[nn.Module, tuple[LearnsPictures, list[Any]]] = {}
        for batch in batches:
            for name, work in batch.work.items():
                decoder = self.decoder(name)
                # One that is not trainable has its scale, and maybe a network that was trained on it.
                if isinstance(decoder, LearnsPictures) and any(
                    one.requires_grad for one in decoder.vae.parameters()
                ):
                    shown.setdefault(decoder.vae, (decoder, []))[1].append(work.inputs)
        if not shown:
            raise InputError(
                "no picture for an autoencoder that learns; check the stage's mixture and its trainable globs"
            )
        for owner, inputs in shown.values():
            owner.settle(inputs)

    def total(self, terms: Mapping[str, Tensor], loss_weights: Mapping[str, float]) -> Tensor:
        """Weighted sum: a decoder's own weights, times the run's weight of that decoder."""
        total = torch.zeros((), device=self.device)
        for key, value in terms.items():
            name, _, term = key.partition("/")
            own = self.decoder(name).weights[term] if term else 1.0
            total = total + loss_weights.get(name, DEFAULT_WEIGHTS.get(name, 1.0)) * own * value
        return total

    @property
    def _own_terms(self) -> list[str]:
        return [
            f"{name}.{lesson}"
            for lesson, kind in OWN_LESSONS.items()
            for name, one in self.decoders.items()
            if isinstance(one, kind)
        ]

    def _shown_again(self, batch: JointBatch, counts: Mapping[str, float]) -> dict[str, Tensor]:
        """Terms of pictures alone: no link is needed, and the router does not run."""
        terms = {}
        for name, work in batch.work.items():
            decoder, key = self.decoder(name), f"{name}.pictures"
            assert isinstance(decoder, LearnsPictures)
            terms[key] = decoder.pictures_loss(work.inputs, count=counts[key])
        return terms

    def _named_patches(
        self, batch: JointBatch, counts: Mapping[str, float], visual: Tensor | None
    ) -> dict[str, Tensor]:
        """The term of visual tokens (P, n, D) of all tiles, which are made here if they are None."""
        if not batch.goals:
            return {}
        tiles = np.cumsum([sum(images) for images in batch.rows.tile_counts])
        last = torch.tensor([tiles[row] - 1 for row in batch.goals], device=self.device)
        if visual is None:
            assert batch.rows.tiles is not None
            tokens = self.router.see(batch.rows.tiles[last]).tokens
        else:
            tokens = visual[last]
        language = self.router.language
        total, _ = patch_words_loss(tokens, list(batch.goals.values()), language.model.norm, language.lm_head)
        return {PATCH_WORDS: total / counts[PATCH_WORDS]}

    def _kept_links(
        self, batch: JointBatch, counts: Mapping[str, float], output: RouterOutput
    ) -> dict[str, Tensor]:
        if not self._before or not any(output.links):
            return {}
        share = self._held_share if self.training else 1.0
        if share < 1 and float(torch.rand(())) >= share:
            return {}
        with torch.no_grad():
            before: RouterOutput = self._before[0](batch.rows, only_labelled=True)
        kept = kept_links_loss(output.links, before.links)
        return {} if kept is None else {KEPT_LINKS: kept[0] / (counts[KEPT_LINKS] * share)}

    def _looks(self, batch: JointBatch, counts: Mapping[str, float], seen: Watched) -> dict[str, Tensor]:
        if self._looking is None:
            return {}
        terms = looks_terms(self.router.language, seen, self._looking, batch.looks)
        return {name: total / counts[name] for name, total in terms.items()}

    def _links(
        self, output: RouterOutput, batch: JointBatch, row: int, planned: PlannedCall
    ) -> tuple[SuperLink, ...]:
        links = _last_message_links(output.links[row], batch.last_tokens[row], batch.sources[row])
        return tuple(
            replace(empty, embeddings=links[index].embeddings, position=links[index].position)
            for index, empty in zip(planned.links, planned.call.links, strict=True)
        )


def _last_message_links(
    links: Sequence[RowLink], tokens: Sequence[RoutingToken], source: str
) -> Sequence[RowLink]:
    """Links of the last message: the last ones of a row, since no text follows that message."""
    found = links[max(0, len(links) - len(tokens)) :]
    if len(found) < len(tokens):
        raise LinkError(
            f"sample {source!r} writes {len(tokens)} routing tokens in its last message, the router gathered "
            f"{len(found)}; was the row cut off?"
        )
    for index, (link, token) in enumerate(zip(found, tokens, strict=True)):
        if link.token.text != token.text:
            raise LinkError(
                f"sample {source!r}: link {index} of the last message should belong to {token.text}, "
                f"the router gathered {link.token.text}"
            )
    return found
