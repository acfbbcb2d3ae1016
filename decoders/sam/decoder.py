"""The decoder: links, other prompts and pictures in, masks out; the contract around Segment Anything.

Axes: B calls, K links of a call, L embeddings of a link, D link width, U pictures, N prompts of all
calls, M masks a prompt, c prompt width, g side of the features, s side of the mask grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from superlink.decoders.artifacts import Artifact
from superlink.decoders.contract import Call, Decoder
from superlink.decoders.letterbox import Letterbox, stack_pictures
from superlink.decoders.sam.cache import FeatureCache
from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.frame import FramePrompt, sam_letterbox, to_frame
from superlink.decoders.sam.inputs import SamInputs, distinct_pictures, training_prompts
from superlink.decoders.sam.losses import mask_terms
from superlink.decoders.sam.model import PromptBatch, SegmentAnything
from superlink.decoders.sam.prompts import prompts_of
from superlink.decoders.sam.serving import answer
from superlink.router.errors import DecoderError, InputError
from superlink.router.links import LinkBatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamOutputs:
    logits: Tensor  # (N, M, s, s) float32
    fits: Tensor  # (N, M) float32, predicted IoU
    reached: Tensor  # scalar 0 whose graph holds pictures and links, for batches without prompts


class SamDecoder(Decoder[SamInputs, SamOutputs]):
    """A mask for everything that links, boxes, clicks and masks of a call ask for."""

    half_weights = False

    def __init__(self, config: SamConfig, link_dim: int) -> None:
        super().__init__()
        self.config: SamConfig = config
        self.link_dim = link_dim
        self.model = SegmentAnything(config)
        if config.link_prompts:
            self.link_embed = nn.Sequential(
                nn.Linear(link_dim, link_dim), nn.ReLU(), nn.Linear(link_dim, config.d_model)
            )
        self._cache = FeatureCache(self.model.vision_encoder, config.cached_pictures)

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> SamInputs:
        """With targets, prompts are drawn from them, and inputs of the calls are not used.

        Raises:
            InputError: a call without picture, or with inputs that cannot be prompts.
            DataError: labels that do not fit.
        """
        config, side = self.config, self.config.image_size
        pictures = config.pictures(calls)
        boxes = [sam_letterbox(one.shape[:2], side) for one in pictures]
        first, picture = distinct_pictures(calls)
        pixels, _ = stack_pictures(
            [pictures[row] for row in first],
            [boxes[row] for row in first],
            frame=(side, side),
            mean=config.mean,
            std=config.std,
        )
        routes = tuple(self.config.route(call) for call in calls)
        prompts, goals = None, None
        if targets is not None:
            prompts, goals = training_prompts(calls, targets, boxes, config, self.device)
        return SamInputs(
            calls=tuple(calls),
            routes=routes,
            letterboxes=tuple(boxes),
            pixels=pixels.to(self.device),
            picture_ids=tuple(calls[row].image_id for row in first),
            picture=picture,
            prompts=self._prompts(calls, boxes) if prompts is None else prompts,
            targets=goals,
        )

    def _prompts(self, calls: Sequence[Call], boxes: Sequence[Letterbox]) -> tuple[FramePrompt, ...]:
        config = self.config
        found = []
        for row, (call, box) in enumerate(zip(calls, boxes, strict=True)):
            for prompt in prompts_of(call):
                if prompt.link_alone and not config.link_prompts:
                    raise InputError(
                        f"call {call.id!r} has links alone, but {config.name} is configured without link "
                        f"prompts; give it boxes, clicks or masks"
                    )
                found.append(
                    to_frame(
                        prompt,
                        box,
                        call=row,
                        side=config.image_size,
                        stride=config.mask_stride,
                        logit=config.mask_prompt_logit,
                    )
                )
        return tuple(found)

    def project(self, links: LinkBatch) -> Tensor:
        """(B, K, L, c) sparse prompts: every link embedding through the same two layers, as in LISA."""
        embeddings = self.embeddings_of(links)
        if not self.config.link_prompts:
            batch, most = embeddings.shape[:2]
            return torch.zeros(batch, most, 0, self.config.d_model, device=self.device)
        projected: Tensor = self.link_embed(embeddings.to(next(self.link_embed.parameters()).dtype))
        return projected

    def features(self, inputs: SamInputs) -> Tensor:
        """(U, c, g, g) of the pictures; without gradients, those looked at lately are not encoded again."""
        keep = not torch.is_grad_enabled() and not self.training
        found = [self._cache.get(name) if keep else None for name in inputs.picture_ids]
        missing = [row for row, one in enumerate(found) if one is None]
        for start in range(0, len(missing), self.config.pictures_at_once):
            rows = missing[start : start + self.config.pictures_at_once]
            for row, encoded in zip(rows, self.model.encode(inputs.pixels[rows]), strict=True):
                found[row] = encoded
                if keep:
                    self._cache.put(inputs.picture_ids[row], encoded)
        return torch.stack([one for one in found if one is not None])

    def forward(self, links: LinkBatch, inputs: SamInputs) -> SamOutputs:
        """(B, K, L, D) links to M masks of each of N prompts, in the order of `inputs.prompts`.

        Logits are (N, M, s, s) and cover the square frame; s is a quarter of its side. M is 1 unless
        `multimask` is configured.

        Raises:
            LinkError: links of another width than the decoder was built for.
        """
        tokens, features = self.project(links), self.features(inputs)
        config, side = self.config, 4 * self.config.grid
        wanted = config.num_multimask if config.multimask else 1
        logits = [features.new_zeros(0, wanted, side, side, dtype=torch.float32)]
        fits = [features.new_zeros(0, wanted, dtype=torch.float32)]
        order: list[int] = []
        for rows in _alike(inputs.prompts, config.prompts_at_once):
            prompts = [inputs.prompts[row] for row in rows]
            sparse, dense = self.model.embed(PromptBatch.of(prompts, features.device))
            own = tokens[[one.call for one in prompts], [one.label for one in prompts]]
            masks, fit = self.model.decode(
                features[[inputs.picture[one.call] for one in prompts]],
                torch.cat([sparse, own], 1),
                dense,
                multimask=config.multimask,
            )
            logits.append(masks.float())
            fits.append(fit.float())
            order += rows
        back = torch.tensor(order, dtype=torch.long, device=features.device).argsort()
        return SamOutputs(
            logits=torch.cat(logits)[back],
            fits=torch.cat(fits)[back],
            reached=(features.sum() + tokens.sum()).float() * 0,
        )

    def count(self, inputs: SamInputs) -> float:
        return 0.0 if inputs.targets is None else float(inputs.targets.objects)

    def loss(self, outputs: SamOutputs, inputs: SamInputs, *, count: float) -> dict[str, Tensor]:
        """Raises DecoderError where the inputs were prepared without targets."""
        if inputs.targets is None:
            raise DecoderError(f"{self.config.name} needs prepare(calls, targets) before loss")
        with torch.autocast(outputs.logits.device.type, enabled=False):
            terms = mask_terms(outputs.logits, outputs.fits, inputs.targets, self.config)
            return {name: term / count + outputs.reached for name, term in terms.items()}

    @property
    def weights(self) -> Mapping[str, float]:
        own = self.config.weights
        return {"loss_mask": own.mask, "loss_dice": own.dice, "loss_iou": own.iou}

    @torch.no_grad()
    def postprocess(self, outputs: SamOutputs, inputs: SamInputs) -> list[Artifact]:
        """One artifact a call.

        Raises:
            DecoderError: values of a call came out not finite.
        """
        fits, chosen = outputs.fits.max(1)
        rows = torch.arange(len(chosen), device=chosen.device)
        logits = outputs.logits[rows, chosen]
        results: list[Artifact] = []
        whole = zip(inputs.calls, inputs.routes, inputs.letterboxes, strict=True)
        for number, (call, route, box) in enumerate(whole):
            own = [row for row, one in enumerate(inputs.prompts) if one.call == number]
            prompts = [inputs.prompts[row] for row in own]
            results.append(answer(logits[own], fits[own], prompts, call, route, box, self.config))
        return results


def _alike(prompts: Sequence[FramePrompt], most: int) -> list[list[int]]:
    """Rows of prompts of one kind, at most `most` together: the mask decoder knows no padding."""
    kinds: dict[object, list[int]] = {}
    for row, prompt in enumerate(prompts):
        kinds.setdefault(prompt.kind, []).append(row)
    return [rows[start : start + most] for rows in kinds.values() for start in range(0, len(rows), most)]
