"""What an edit leaves alone keeps the pixels of its source, at their full size.

An autoencoder blurs all of a picture, and small frames lose what is fine. Where a source that went
through the autoencoder looks like the edited one, nothing was to change: its own pixels stand there.

Axes: h x w pixels of the frame that was edited, H x W of the source.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from superlink.decoders.diffusion.inputs import Pixels, resized, to_pixels

SAME, OTHER = 0.10, 0.20  # differences, of the range of a channel: below nothing was changed, above all
_AROUND = 3  # pixels of the frame over which a difference is averaged


def with_pixels_of(source: Pixels, again: Tensor, edited: Tensor) -> Pixels:
    """(H, W, 3) the edited picture, with the source's pixels where the edit changed nothing.

    Args:
        source: (H, W, 3).
        again: (1, 3, h, w) in [-1, 1], the source as the autoencoder shows it.
        edited: (1, 3, h, w) in [-1, 1].
    """
    size = (source.shape[0], source.shape[1])
    share = changed(again, edited)
    wide = F.interpolate(share, size=size, mode="bilinear", align_corners=False)
    share_of_edit = wide[0, 0, :, :, None].float().cpu().numpy()
    mixed = resized(to_pixels(edited), size) * share_of_edit + source * (1.0 - share_of_edit)
    return np.asarray(mixed.round().clip(0, 255).astype(np.uint8))


def changed(again: Tensor, edited: Tensor) -> Tensor:
    """(1, 1, h, w) in [0, 1]: how far a place is another one after the edit."""
    apart = (edited.float().clamp(-1, 1) - again.float().clamp(-1, 1)).abs().amax(dim=1, keepdim=True) / 2
    apart = F.avg_pool2d(apart, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    return torch.clamp((apart - SAME) / (OTHER - SAME), 0.0, 1.0)
