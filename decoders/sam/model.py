"""Image encoder, prompt encoder and mask decoder: transformers' Segment Anything layers.

transformers' own model joins them for one picture encoding with prompts of one kind; here the
prompts of many pictures share an encoding, and super-links follow the other sparse prompts.

Axes: B pictures, n prompts, P points, T sparse tokens, M masks a prompt, c width, g side of the
features, s side of the mask grid (4 g), S side of the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder, SamVisionEncoder

from superlink.decoders.sam.config import SamConfig
from superlink.decoders.sam.frame import FramePrompt
from superlink.decoders.sam.fresh import begin_decoder, begin_encoder


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptBatch:
    """n prompts of one kind, in frame pixels."""

    size: int
    points: Tensor | None = None  # (n, P, 2)
    inside: Tensor | None = None  # (n, P) 1 or 0
    boxes: Tensor | None = None  # (n, 4)
    masks: Tensor | None = None  # (n, 1, s, s) logits

    @classmethod
    def of(cls, prompts: Sequence[FramePrompt], device: torch.device) -> PromptBatch:
        """Prompts whose `kind` is the same."""
        boxes = [one.box for one in prompts if one.box is not None]
        masks = [one.mask for one in prompts if one.mask is not None]
        pointed = len(prompts[0].points) > 0
        return cls(
            size=len(prompts),
            points=torch.stack([one.points for one in prompts]).to(device) if pointed else None,
            inside=torch.stack([one.inside for one in prompts]).to(device) if pointed else None,
            boxes=torch.stack(boxes).to(device) if boxes else None,
            masks=torch.stack(masks).to(device) if masks else None,
        )


class SegmentAnything(nn.Module):
    """Pictures and prompts to masks and how well each of them fits."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        layers: Any = config.layer_config()
        self.grid = config.grid
        self.vision_encoder = SamVisionEncoder(layers.vision_config)
        self.prompt_encoder = SamPromptEncoder(layers)
        # The frequencies of the position encoding are drawn once, not learned.
        self.prompt_encoder.shared_embedding.positional_embedding.requires_grad_(False)
        layers.mask_decoder_config._attn_implementation = self.vision_encoder.config._attn_implementation
        self.mask_decoder = SamMaskDecoder(layers.mask_decoder_config)
        begin_encoder(self.vision_encoder, self.positions())
        begin_decoder(self.mask_decoder)

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels to (B, c, g, g) features."""
        features: Tensor = self.vision_encoder(pixels).last_hidden_state
        return features

    def positions(self) -> Tensor:
        """(1, c, g, g) encoding of the centres of the cells."""
        frequencies = self.prompt_encoder.shared_embedding
        weight = frequencies.positional_embedding
        centres = (torch.arange(self.grid, device=weight.device, dtype=weight.dtype) + 0.5) / self.grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        encoded: Tensor = frequencies(torch.stack([x, y], -1))
        return encoded.permute(2, 0, 1)[None]

    def embed(self, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Sparse (n, T, c) embeddings of points and boxes, dense (n, c, g, g) ones of masks.

        Points without a box get a padding token; without points and boxes T is 0.
        """
        points, inside, boxes = prompts.points, prompts.inside, prompts.boxes
        sparse, dense = self.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if inside is None else inside[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=prompts.masks,
        )
        dense = dense.expand(prompts.size, -1, -1, -1)
        if sparse is None:
            return dense.new_zeros(prompts.size, 0, dense.shape[1]), dense
        return sparse[:, 0], dense

    def decode(
        self, features: Tensor, sparse: Tensor, dense: Tensor, *, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Masks of n prompts.

        Args:
            features: (n, c, g, g) of the picture of each prompt.
            sparse: (n, T, c).
            dense: (n, c, g, g).
            multimask: several masks a prompt, for prompts that can mean several things.

        Returns:
            (n, M, s, s) logits and (n, M) predicted IoU with what is meant.
        """
        masks, fits = self.mask_decoder(
            image_embeddings=features,
            image_positional_embeddings=self.positions().to(features.dtype).expand(len(features), -1, -1, -1),
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return masks[:, 0], fits[:, 0]
