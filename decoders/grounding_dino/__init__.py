"""Grounding DINO whose text side is super-links: open-vocabulary boxes and masks.

Liu et al. 2023 (Grounding DINO), with the link projection and the mask branch of VisionLLM v2
(Wu et al. 2024). Layers come from transformers; this package owns what stands between them.
"""

from superlink.decoders.grounding_dino.config import GroundingDinoConfig, LossWeights, MatchCosts
from superlink.decoders.grounding_dino.decoder import GroundingDinoDecoder

__all__ = ["GroundingDinoConfig", "GroundingDinoDecoder", "LossWeights", "MatchCosts"]
