"""Letterbox: a picture scaled into a decoder's frame with its proportions kept, and the exact way back.

The scaled picture lies in the TOP LEFT corner; the frame is padded to the right and below. So
coordinates divided by the inner size are the same numbers as coordinates divided by the
picture's own size, whatever the padding.

The inner size is rounded to whole pixels (and is at least 1), so the two axes may be scaled
slightly differently; both directions use the rounded sizes, which makes them exact inverses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from superlink.decoders.artifacts import BoolArray
from superlink.router.errors import InputError

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """Where one picture lies in a frame."""

    size: Size  # of the picture
    inner: Size  # of the scaled picture, in the frame's top left corner

    @classmethod
    def fit(cls, size: Size, *, shortest: int, longest: int) -> Letterbox:
        """The largest scale at which the sides are at most `shortest` and `longest` (DETR's rule).

        With `shortest == longest` the longer side becomes exactly that, and the picture fits a square.

        Raises:
            InputError: an empty picture.
        """
        height, width = size
        if height < 1 or width < 1:
            raise InputError(f"a picture needs at least one pixel, got {height} x {width}")
        scale = min(shortest / min(size), longest / max(size))
        # Halves go up, as in the published pipeline (mmcv's `rescale_size`); `round` goes to even numbers.
        inner = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        return cls(size=size, inner=inner)

    def frame(self, multiple: int = 32) -> Size:
        """The smallest frame whose sides are multiples of `multiple`."""
        return round_up(self.inner[0], multiple), round_up(self.inner[1], multiple)

    @property
    def scale(self) -> NDArray[np.float64]:
        """(x, y) frame pixels per picture pixel."""
        height, width = self.size
        return np.array([self.inner[1] / width, self.inner[0] / height], dtype=np.float64)

    def points_to_frame(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 2) x, y in picture pixels to frame pixels."""
        return np.asarray(points, dtype=np.float64) * self.scale

    def points_to_picture(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 2) x, y in frame pixels to picture pixels; not clipped."""
        return np.asarray(points, dtype=np.float64) / self.scale

    def boxes_to_frame(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 4) xyxy in picture pixels to frame pixels."""
        return np.asarray(boxes, dtype=np.float64) * np.tile(self.scale, 2)

    def boxes_to_picture(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., 4) xyxy in frame pixels to picture pixels; not clipped."""
        return np.asarray(boxes, dtype=np.float64) / np.tile(self.scale, 2)

    def picture_to_frame(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) picture scaled to the inner size, anti-aliased; not padded."""
        if self.inner == self.size:
            return picture
        height, width = self.inner
        scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(scaled)

    def masks_to_frame(self, masks: BoolArray) -> BoolArray:
        """(N, H, W) picture masks to (N, *inner): a pixel is set where the mask covers half of it."""
        if self.inner == self.size or len(masks) == 0:
            return masks.reshape(len(masks), *self.inner)
        maps, size = torch.from_numpy(masks)[:, None].float(), self.inner
        # torch 2.13 mixes up the rows of maps that become one pixel wide; lying down they are right.
        narrow = size[1] == 1
        if narrow:
            maps, size = maps.transpose(2, 3).contiguous(), size[::-1]
        scaled = F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)
        if narrow:
            scaled = scaled.transpose(2, 3)
        return np.asarray((scaled[:, 0] >= 0.5).numpy())

    def masks_to_picture(self, logits: Tensor, *, stride: int) -> BoolArray:
        """Mask logits over the frame to masks of the picture.

        Args:
            logits: (N, h, w) at `stride` frame pixels a cell; covers at least the inner size.

        Returns:
            (N, H, W), True where the logit, read bilinearly, is above zero.
        """
        out = np.zeros((len(logits), *self.size), dtype=np.bool_)
        # One at a time: a float map of a large picture is four times its mask.
        for row, one in enumerate(logits):
            out[row] = (self.resize_to_picture(one[None], stride=stride)[0] > 0).cpu().numpy()
        return out

    def resize_to_picture(self, maps: Tensor, *, stride: int) -> Tensor:
        """(N, h, w) maps over the frame to (N, H, W): to frame pixels, padding cut off, to picture pixels."""
        height, width = maps.shape[-2:]
        frame = (height * stride, width * stride)
        whole = F.interpolate(maps[:, None].float(), size=frame, mode="bilinear", align_corners=False)
        inner = whole[:, :, : self.inner[0], : self.inner[1]]
        if self.inner == self.size:
            return inner[:, 0]
        return F.interpolate(inner, size=self.size, mode="bilinear", align_corners=False)[:, 0]


def round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def common_frame(boxes: Sequence[Letterbox], multiple: int = 32) -> Size:
    """The smallest frame that holds every picture of a batch."""
    frames = [box.frame(multiple) for box in boxes]
    return max(height for height, _ in frames), max(width for _, width in frames)


def stack_pictures(
    pictures: Sequence[NDArray[np.uint8]],
    boxes: Sequence[Letterbox],
    *,
    frame: Size,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Normalised pixels (B, 3, *frame), zero in the padding, and (B, *frame) bool, True on the picture."""
    pixels = torch.zeros(len(pictures), 3, *frame)
    valid = torch.zeros(len(pictures), *frame, dtype=torch.bool)
    shift = torch.tensor(mean)[:, None, None] * 255.0
    factor = 1.0 / (torch.tensor(std)[:, None, None] * 255.0)
    for row, (picture, box) in enumerate(zip(pictures, boxes, strict=True)):
        scaled = torch.from_numpy(np.array(box.picture_to_frame(picture))).permute(2, 0, 1)
        height, width = box.inner
        pixels[row, :, :height, :width] = (scaled - shift) * factor
        valid[row, :height, :width] = True
    return pixels, valid
