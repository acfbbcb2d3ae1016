"""Segment Anything whose prompts are super-links, boxes, clicks and masks, alone or together.

Kirillov et al. 2023 (Segment Anything), with links as sparse prompts like LISA (Lai et al. 2024).
Layers come from transformers; this package owns what stands between them.
"""

from superlink.decoders.sam.checkpoint import load_checkpoint
from superlink.decoders.sam.config import LossWeights, PromptMix, SamConfig
from superlink.decoders.sam.decoder import SamDecoder
from superlink.decoders.sam.prompts import clicks

__all__ = ["LossWeights", "PromptMix", "SamConfig", "SamDecoder", "clicks", "load_checkpoint"]
