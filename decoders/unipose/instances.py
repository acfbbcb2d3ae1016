"""Who looks at whom once every instance has its own keypoint queries.

The queries of a batch are N denoising queries, then G instances of S = 1 + P queries each: the box,
then P keypoint slots, of which a call uses the first few. A query looks only inside its instance and
only at queries of its own kind, used or unused; denoising queries look at their group and at every
instance. So attention runs instance by instance, on S * S scores in place of (G * S) * (G * S).

Axes: B calls, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GroundingDinoConfig as LayerConfig
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMultiheadAttention

from superlink.decoders.grounding_dino.denoising import Denoising
from superlink.decoders.grounding_dino.transformer import additive


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instances:
    """Takes the place of an attention mask."""

    count: int  # G
    used: Tensor  # (B, S) bool; the box and the keypoints that a call asks for
    noised: Tensor | None  # (B or 1, 1, N, N + G * S) bool; True where a denoising query must not look

    @classmethod
    def of(cls, used: Tensor, count: int, denoising: Denoising | None, *, hide_padding: bool) -> Instances:
        """`hide_padding`: denoising queries look neither at padded ones nor at unused slots."""
        if denoising is None:
            return cls(count=count, used=used, noised=None)
        among = denoising.blocked(0, hide_padding=hide_padding)
        columns = ~used if hide_padding else torch.zeros_like(used)
        batch, rows = len(used), among.shape[-1]
        others = columns.repeat(1, count)[:, None, None].expand(-1, -1, rows, -1)
        return cls(count=count, used=used, noised=torch.cat([among.expand(batch, -1, -1, -1), others], -1))

    @property
    def apart(self) -> Tensor:
        """(B, S, S) bool, True between used and unused queries."""
        return self.used[:, :, None] != self.used[:, None, :]


def legacy_blocked(used: Tensor, count: int) -> Tensor:
    """(B, 1, G * S, G * S) bool mask of the published inference, True = must not look.

    It is built twice: first with blocks of S - 1 queries (which leaves the last G rows free), then the
    true blocks are written on its diagonal.
    """
    batch, size = used.shape
    total, covered = count * size, count * (size - 1)
    block = torch.arange(total, device=used.device) // (size - 1)
    wrong = block[:, None] != block[None, :]
    wrong[covered:] = False
    # Rows of the last short block see the columns that it does not cover.
    wrong[covered - (size - 1) : covered, covered:] = False
    blocked = wrong.repeat(batch, 1, 1)
    apart = used[:, :, None] != used[:, None, :]
    for start in range(0, total, size):
        blocked[:, start : start + size, start : start + size] = apart
    return blocked[:, None]


class InstanceAttention(GroundingDinoMultiheadAttention):
    """Self-attention that also takes `Instances` as its mask."""

    def __init__(self, config: LayerConfig, heads: int) -> None:
        super().__init__(config, num_attention_heads=heads)  # type: ignore[no-untyped-call]

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        attention_mask: Tensor | Instances | None = None,
        output_attentions: bool | None = False,
    ) -> Any:
        """(B, Q, d) each. With `Instances` no attention weights are returned."""
        attend: Any = super().forward
        if not isinstance(attention_mask, Instances):
            return attend(queries, keys, values, attention_mask, output_attentions)
        batch, total, width = queries.shape
        size = attention_mask.used.shape[1]
        noised = total - attention_mask.count * size
        inside = [
            one[:, noised:].reshape(batch * attention_mask.count, size, width)
            for one in (queries, keys, values)
        ]
        apart = additive(attention_mask.apart).repeat_interleave(attention_mask.count, 0)[:, None]
        out = attend(*inside, apart, False)[0].reshape(batch, -1, width)
        if noised:
            hidden = None if attention_mask.noised is None else additive(attention_mask.noised)
            out = torch.cat([attend(queries[:, :noised], keys, values, hidden, False)[0], out], 1)
        return out, None


def use_instance_attention(layers: nn.ModuleList, config: LayerConfig) -> None:
    """Give decoder layers self-attention that takes `Instances`, with the weights that they have.

    Args:
        config: what the layers were built from.
    """
    layer: Any
    for layer in layers:
        attention = InstanceAttention(config, layer.self_attn.num_attention_heads)
        attention.load_state_dict(layer.self_attn.state_dict())
        layer.self_attn = attention
