"""What both diffusion decoders share; the contract around diffusers' networks.

Axes: B calls, L embeddings of a link, D link width, Q vectors of the conditioning, d their width,
C latent channels, h x w latent cells.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from superlink.decoders.artifacts import Artifact, Origin, Picture
from superlink.decoders.contract import Call, Decoder
from superlink.decoders.diffusion.autoencoder import begin, settle, shown_again
from superlink.decoders.diffusion.captions import load_tokenizer, token_ids
from superlink.decoders.diffusion.config import DiffusionConfig
from superlink.decoders.diffusion.inputs import (
    DiffusionInputs,
    Lesson,
    Pixels,
    resized,
    steps_option,
    target_pixels,
    to_pixels,
    to_tensor,
)
from superlink.decoders.diffusion.layers import (
    LinkMapper,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    can_take,
    step_counts,
    training_scheduler,
)
from superlink.decoders.diffusion.losses import Denoised, mean_square, mean_square_where, time_weights
from superlink.decoders.diffusion.noise import Noise, SeededNoise
from superlink.decoders.diffusion.sampling import Plan, sample_latents
from superlink.router.errors import DataError, DecoderError, InputError, ModelError
from superlink.router.links import LinkBatch

_CHANGED = 0.1  # of a scaled latent: less is the picture's own noise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiffusionOutputs:
    conditioning: Tensor  # (B, Q, d)
    pictures: tuple[Tensor, ...]  # of each call (1, 3, H, W), about [-1, 1]; none while training
    denoised: Denoised | None  # while training


class DiffusionDecoder(Decoder[DiffusionInputs, DiffusionOutputs]):
    """A picture for each link."""

    def __init__(self, config: DiffusionConfig, link_dim: int) -> None:
        super().__init__()
        self.config: DiffusionConfig = config
        self.link_dim = link_dim
        self.mapper = LinkMapper(config, link_dim)
        self.unet = build_unet(config.unet)
        self.vae = build_vae(config.vae)
        self.unet.requires_grad_(config.train_unet)
        self.vae.requires_grad_(False)
        self.noise_levels = training_scheduler(config.scheduler)
        self.step_counts = step_counts(config.scheduler)  # the least and the most
        self._takes: dict[int, bool] = {}  # which of those that were asked for the scheduler takes
        self.text_encoder = None
        if config.text_encoder is None:
            self.no_words = nn.Parameter(torch.zeros(1, config.num_queries, config.width))
        else:
            self.text_encoder = build_text_encoder(config.text_encoder)
            self.register_buffer("empty_caption", torch.tensor([config.empty_caption]), persistent=False)
        self._tokenizer: CLIPTokenizer | None = None

    @abstractmethod
    def source(self, call: Call) -> Pixels | None:
        """The picture that the call edits; None for decoders that edit none."""

    @abstractmethod
    def plan(self, call: Call, source: Pixels | None) -> Plan:
        """How the call's picture is made: its own options, else the configuration's."""

    @property
    def unchanged(self) -> float:
        """How much of a source's latents is added to what the U-Net predicts."""
        return 0.0

    @abstractmethod
    def square(self, pixels: Pixels, side: int) -> Pixels:
        """A picture to learn from, as a square."""

    @abstractmethod
    def drop(
        self, conditioning: Tensor, sources: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Conditioning and latents of the pictures to edit, each left out now and then."""

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> DiffusionInputs:
        """Options and pictures, checked.

        Raises:
            InputError: an option or a picture that cannot be used.
            DataError: labels that do not fit.
        """
        for call in calls:
            self._check(call)
        sources = [self.source(call) for call in calls]
        plans = [self.plan(call, source) for call, source in zip(calls, sources, strict=True)]
        given = [source for source in sources if source is not None]
        learn = targets is not None
        read = (learn and self.config.learns_captions) or any(call.token.kind == "text" for call in calls)
        return DiffusionInputs(
            calls=tuple(calls),
            plans=tuple(plans),
            sources=tuple(
                to_tensor(resized(source, plan.size)).to(self.device)
                for source, plan in zip(sources, plans, strict=True)
                if source is not None and not learn
            ),
            sizes=tuple(
                plan.size if source is None else (source.shape[0], source.shape[1])
                for source, plan in zip(sources, plans, strict=True)
            ),
            captions=self.caption_ids([call.names[0] for call in calls]) if read else None,
            lesson=None if targets is None else self._lesson(calls, given, target_pixels(calls, targets)),
        )

    def forward(self, links: LinkBatch, inputs: DiffusionInputs) -> DiffusionOutputs:
        """(B, 1, L, D) links to pictures, made step by step; with a lesson, to what one step predicts.

        Raises:
            LinkError: links of another width than the decoder was built for.
            ModelError: links of kind "text" for a decoder without a text encoder.
        """
        conditioning = self.condition(links, inputs)
        if inputs.lesson is None:
            pictures = self.sample(conditioning.to(self.unet.dtype), inputs)
            return DiffusionOutputs(conditioning=conditioning, pictures=pictures, denoised=None)
        denoised = self.denoise(conditioning, inputs.lesson)
        return DiffusionOutputs(conditioning=conditioning, pictures=(), denoised=denoised)

    def condition(self, links: LinkBatch, inputs: DiffusionInputs) -> Tensor:
        """(B, Q, d): mapped links; the text encoder's own vectors for links of kind "text".

        Raises:
            LinkError: links of another width than the decoder was built for.
        """
        words = [call.token.kind == "text" for call in inputs.calls]
        if words and all(words):
            assert inputs.captions is not None
            return self.encode_captions(inputs.captions)
        mapped: Tensor = self.mapper(self.embeddings_of(links)[:, 0].to(self.mapper.queries.dtype))
        if not any(words):
            return mapped
        assert inputs.captions is not None
        by_words = torch.tensor(words, device=mapped.device)[:, None, None]
        return torch.where(by_words, self.encode_captions(inputs.captions), mapped)

    @torch.no_grad()
    def encode_captions(self, ids: Tensor) -> Tensor:
        """(B, Q) token ids to the text encoder's (B, Q, d)."""
        if self.text_encoder is None:
            raise ModelError(f"{self.config.name} was built without a text encoder")
        features: Tensor = self.text_encoder(ids)[0]
        return features

    def empty(self) -> Tensor:
        """(1, Q, d): the conditioning of no words at all."""
        if self.text_encoder is None:
            return self.no_words
        ids = self.get_buffer("empty_caption")
        return self.encode_captions(ids)

    def caption_ids(self, captions: Sequence[str]) -> Tensor:
        """(B, Q) token ids, cut off or padded to the text encoder's length.

        Raises:
            ModelError: there is no text encoder, or no tokenizer beside it.
        """
        if self.text_encoder is None or self.config.tokenizer is None:
            raise ModelError(
                f"{self.config.name} needs the text encoder and its tokenizer to read words; "
                f"name the tokenizer's folder as `tokenizer`, or set weights.caption to 0"
            )
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.config.tokenizer)
        return token_ids(self._tokenizer, captions, self.config.num_queries).to(self.device)

    @torch.no_grad()
    def sample(self, conditioning: Tensor, inputs: DiffusionInputs) -> tuple[Tensor, ...]:
        """A picture (1, 3, H, W) for each row of the conditioning (B, Q, d)."""
        empty, cell = self.empty().to(conditioning.dtype), self.config.multiple
        groups: dict[Plan, list[int]] = {}
        for row, plan in enumerate(inputs.plans):
            groups.setdefault(plan, []).append(row)
        made: dict[int, Tensor] = {}
        for plan, rows in groups.items():
            sources = None
            if inputs.sources:
                sources = torch.cat([self.encode_source(inputs.sources[row]) for row in rows])
            latents = sample_latents(
                self.unet,
                build_scheduler(self.config.scheduler),
                plan,
                conditioning=conditioning[rows],
                empty=empty,
                shape=(self.config.latent_channels, plan.size[0] // cell, plan.size[1] // cell),
                seeds=[inputs.calls[row].seed for row in rows],
                sources=sources,
                unchanged=self.unchanged,
            )
            # One at a time: the decoder's maps are large beside everything else.
            for row, one in zip(rows, latents.split(1), strict=True):
                scaled = one / self.vae.config.scaling_factor
                made[row] = self.vae.decode(scaled, return_dict=False)[0]
        return tuple(made[row] for row in range(len(inputs.plans)))

    @torch.no_grad()
    def encode_source(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, h, w): the mode of the posterior, not scaled (Brooks et al. 2023)."""
        spread = self.vae.encode(pictures.to(self.vae.dtype), return_dict=False)[0]
        mode: Tensor = spread.mode()
        return mode

    def denoise(self, conditioning: Tensor, lesson: Lesson) -> Denoised:
        """Add noise to the right answers and predict it, at every level one answer after the other."""
        noise, device = lesson.noise, conditioning.device
        with torch.no_grad():
            spread = self.vae.encode(lesson.pictures.to(self.vae.dtype), return_dict=False)[0]
            mean, std = spread.mean.float(), spread.std.float()
            latents = (mean + std * noise.normal(*mean.shape[1:]).to(device)) * self.vae.config.scaling_factor
            copies = self.config.levels
            added = torch.cat([noise.normal(*mean.shape[1:]) for _ in range(copies)]).to(device)
            most = len(self.noise_levels.alphas_cumprod)
            first = noise.below(most)
            times = torch.cat([(first + most * k // copies) % most for k in range(copies)]).to(device)
            latents = latents.repeat(copies, 1, 1, 1)
            given = self.noise_levels.add_noise(latents, added, times)
            sources = None if lesson.sources is None else self.encode_source(lesson.sources)
            changed = None
            if sources is not None:
                apart = (mean - sources.float()).abs().amax(dim=1, keepdim=True)
                changed = (apart * self.vae.config.scaling_factor > _CHANGED).repeat(copies, 1, 1, 1)
        conditioning, sources = self.drop(conditioning, sources, noise)
        if sources is not None:
            given = torch.cat([given, sources.repeat(copies, 1, 1, 1)], dim=1)
        conditioning = conditioning.repeat(copies, 1, 1).to(self.unet.dtype)
        given = given.to(self.unet.dtype)  # noise is added in float32, and so is the loss
        predicted = self.unet(given, times, encoder_hidden_states=conditioning, return_dict=False)[0]
        if sources is not None and self.unchanged:
            predicted = predicted + sources.repeat(copies, 1, 1, 1) * self.unchanged
        goal = added
        if self.noise_levels.config.prediction_type == "v_prediction":
            goal = self.noise_levels.get_velocity(latents, added, times)
        elif self.noise_levels.config.prediction_type == "sample":
            goal = latents
        return Denoised(predicted=predicted, goal=goal, times=times, changed=changed)

    def count(self, inputs: DiffusionInputs) -> float:
        return 0.0 if inputs.lesson is None else float(len(inputs.lesson.pictures))

    def loss(self, outputs: DiffusionOutputs, inputs: DiffusionInputs, *, count: float) -> dict[str, Tensor]:
        """Raises DecoderError where the inputs were prepared without targets."""
        denoised, lesson = outputs.denoised, inputs.lesson
        if denoised is None or lesson is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before loss")
        with torch.autocast(denoised.predicted.device.type, enabled=False):
            weights = time_weights(self.noise_levels, denoised.times, self.config.snr_gamma)
            wrong = mean_square(denoised.predicted, denoised.goal) * weights
            terms = {"loss_noise": wrong.sum() / (count * self.config.levels)}
            if self.config.weights.change and denoised.changed is not None:
                there = mean_square_where(denoised.changed, denoised.predicted, denoised.goal) * weights
                terms["loss_change"] = there.sum() / (count * self.config.levels)
            if self.config.learns_captions:
                assert inputs.captions is not None
                apart = mean_square(outputs.conditioning, self.encode_captions(inputs.captions))
                terms["loss_caption"] = (apart * lesson.captioned).sum() / count
        return terms

    def begin(self) -> None:
        """Before the first `pictures_loss`: an autoencoder that learns from nothing; errors as of `begin`."""
        begin(self.vae)

    def pictures_loss(self, inputs: DiffusionInputs, *, count: float) -> Tensor:
        """What the autoencoder learns by itself, from one picture of each call: see `Lesson.shown`.

        Raises:
            DecoderError: the inputs were prepared without targets.
        """
        lesson = inputs.lesson
        if lesson is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before pictures_loss")
        wrong = shown_again(self.vae, lesson.shown, lesson.noise, kl=self.config.weights.kl)
        return wrong.sum() / count

    def settle(self, batches: Sequence[DiffusionInputs]) -> None:
        """Fit the latents' scale to these pictures, after the last `pictures_loss`; errors as of `settle`."""
        settle(self.vae, (batch.lesson.shown for batch in batches if batch.lesson))

    @property
    def weights(self) -> Mapping[str, float]:
        weights = {"loss_noise": self.config.weights.noise}
        if self.config.weights.change and self.config.sources:
            weights["loss_change"] = self.config.weights.change
        if self.config.learns_captions:
            weights["loss_caption"] = self.config.weights.caption
        return weights

    def postprocess(self, outputs: DiffusionOutputs, inputs: DiffusionInputs) -> list[Artifact]:
        """One picture a call: of the size asked for, or of that of the picture that was edited."""
        results: list[Artifact] = []
        for call, size, picture in zip(inputs.calls, inputs.sizes, outputs.pictures, strict=True):
            if not bool(torch.isfinite(picture).all()):
                raise DecoderError(f"call {call.id!r}: the picture came out with values that are not finite")
            origin = Origin(source=call.image_id, decoder=self.config.name)
            results.append(Picture(pixels=resized(to_pixels(picture), size), origin=origin))
        return results

    def steps(self, call: Call) -> int:
        """In how many steps the call's picture is made.

        Raises:
            InputError: a number that the scheduler cannot take.
        """
        steps = steps_option(call, self.config.steps, self.step_counts)
        if steps not in self._takes:
            self._takes[steps] = can_take(self.config.scheduler, steps)
        if not self._takes[steps]:
            raise InputError(
                f"call {call.id!r}: the {self.config.scheduler['_class_name']} of {self.config.name} cannot "
                f"take {steps} steps with its options; ask for another number of steps"
            )
        return steps

    def _check(self, call: Call) -> None:
        self.config.route(call)
        if len(call.links) != 1:
            raise InputError(f"call {call.id!r} has {len(call.links)} links; {self.config.name} takes one")

    def _lesson(self, calls: Sequence[Call], sources: Sequence[Pixels], answers: Sequence[Pixels]) -> Lesson:
        side = self.config.train_side or self.config.side
        for call, source, answer in zip(calls, sources, answers, strict=False):
            if source.shape != answer.shape:
                raise DataError(
                    f"call {call.id!r} edits a picture of {source.shape[:2]}, "
                    f"but its target has {answer.shape[:2]}"
                )

        def stacked(pictures: Sequence[Pixels]) -> Tensor:
            return torch.cat([to_tensor(self.square(one, side)) for one in pictures]).to(self.device)

        return Lesson(
            pictures=stacked(answers),
            sources=stacked(sources) if sources else None,
            captioned=torch.tensor([bool(call.names[0]) for call in calls], device=self.device),
            # Seed 0 means "not given": PyTorch's own generator decides, so that a resumed run repeats itself.
            noise=SeededNoise([call.seed or int(torch.randint(2**62, ())) for call in calls]),
        )
