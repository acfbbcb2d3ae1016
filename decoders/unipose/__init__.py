"""UniPose: boxes and keypoints of any objects, with names of objects and of keypoints given as links.

Yang et al. 2024 (X-Pose, first called UniPose), with the link projections of VisionLLM v2 (Wu et al.
2024). Pictures, classes and the first decoder layers are those of `superlink.decoders.grounding_dino`;
this package owns the keypoints: queries, masks, heads, losses.
"""

from superlink.decoders.unipose.checkpoint import load_checkpoint
from superlink.decoders.unipose.config import PoseCosts, PoseWeights, UniPoseConfig
from superlink.decoders.unipose.decoder import UniPoseDecoder

__all__ = ["PoseCosts", "PoseWeights", "UniPoseConfig", "UniPoseDecoder", "load_checkpoint"]
