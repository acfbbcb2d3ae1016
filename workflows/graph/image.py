"""Pictures that flow through a workflow. A crop knows where it was cut from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from typing_extensions import Self

from superlink.agents.pictures import PictureLike, SourcePicture, picture_id, read_picture
from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture, tight_boxes
from superlink.router.errors import InputError
from superlink.router.messages import ImageArray

Items = TypeVar("Items", Boxes, Masks, Keypoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where a crop lies in the picture that it was cut from, in whole pixels of that picture."""

    source: str  # id of that picture
    left: int
    top: int
    size: tuple[int, int]  # (height, width) of that picture
    index: int = 0  # of the item that was cut out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image(SourcePicture):
    """An upright RGB picture; a path, bytes, Pillow image or array becomes one at a workflow's input."""

    window: Window | None = None  # None: not a crop

    @classmethod
    def of(cls, picture: PictureLike | Picture) -> Self:
        """Read a picture.

        Raises:
            InputError: nothing that can be read.
        """
        if isinstance(picture, cls):
            return picture
        if isinstance(picture, Picture):
            name = picture.origin.id
            return cls(pixels=picture.pixels, id=picture_id(picture.pixels), name=name)
        read = read_picture(picture)
        return cls(pixels=read.pixels, id=read.id, name=read.name)

    def crop(self, left: int, top: int, right: int, bottom: int, *, index: int = 0) -> Self:
        """A part of the picture, at least one pixel, that knows where it came from.

        Args:
            left: first column.
            top: first line.
            right: column after the last; as `bottom`, cut off at the border.
            bottom: line after the last.
            index: of the item that is cut out.
        """
        height, width = self.size
        left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
        right, bottom = min(max(right, left + 1), width), min(max(bottom, top + 1), height)
        pixels: ImageArray = np.ascontiguousarray(self.pixels[top:bottom, left:right])
        window = Window(source=self.id, left=left, top=top, size=self.size, index=index)
        return replace(self, pixels=pixels, id=picture_id(pixels), window=window)


def uncropped(items: Items, crop: Image) -> Items:
    """What was found in a crop, in pixels of the picture that the crop was cut from.

    Raises:
        InputError: not a crop, or of another size than the items.
    """
    if crop.window is None:
        raise InputError("this picture is not a crop, so there is nothing to map back to")
    window: Window = crop.window
    if tuple(items.size) != crop.size:
        raise InputError(
            f"{type(items).__name__} of a picture of size {list(items.size)} "
            f"do not belong to a crop of size {list(crop.size)}"
        )
    shift = np.asarray([window.left, window.top], np.float32)
    origin = replace(items.origin, source=window.source)
    if isinstance(items, Masks):
        masks = np.zeros((len(items), *window.size), np.bool_)
        height, width = crop.size
        masks[:, window.top : window.top + height, window.left : window.left + width] = items.masks
        return replace(items, masks=masks, xyxy=tight_boxes(masks), size=window.size, origin=origin)
    xyxy = items.xyxy + np.tile(shift, 2)
    if isinstance(items, Keypoints):
        xyv = items.xyv.copy()
        xyv[..., :2] += np.where(xyv[..., 2:] > 0, shift, 0)  # not labelled: stays 0, 0
        return replace(items, xyv=xyv, xyxy=xyxy, size=window.size, origin=origin)
    return replace(items, xyxy=xyxy, size=window.size, origin=origin)
