"""Published checkpoints on disk: X-Pose's own files, or the part of VisionLLM v2 in a file of its own."""

from __future__ import annotations

from pathlib import Path

from superlink.decoders.strict import read_weights
from superlink.decoders.unipose.config import UniPoseConfig
from superlink.decoders.unipose.decoder import UniPoseDecoder
from superlink.decoders.unipose.keymap import is_xpose, load_published, load_xpose


def load_checkpoint(
    path: str | Path, *, link_dim: int, config: UniPoseConfig | None = None
) -> UniPoseDecoder:
    """A decoder with published weights, in eval mode.

    From a file of X-Pose (`unipose_swint.pth`) its link projections are fresh, and X-Pose's text side is left
    out; from one of VisionLLM v2 they have its weights.

    Args:
        path: a `.pth` file, whose state dict may lie under "model", or a `.safetensors` file.
        link_dim: width of the links.
        config: sizes, routes and options; by default those of the published Swin-T.

    Raises:
        ModelError: the file is missing or damaged, or weights and configuration do not match.
    """
    state = read_weights(Path(path), entry="model")
    decoder = (config or UniPoseConfig()).build(link_dim)
    if is_xpose(state):
        load_xpose(decoder, state)
    else:
        load_published(decoder, state)
    return decoder.eval()
