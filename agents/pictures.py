"""Reading pictures: whatever a person hands in becomes upright 8-bit RGB, or one clear error.

EXIF orientation is applied first, so every coordinate elsewhere is in the upright picture.
Transparent pixels are composited on white; 16-bit values are scaled to 8 bits.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from traceback import TracebackException

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from superlink.router.errors import InputError
from superlink.router.messages import ImageArray

MAX_PIXELS = 50_000_000  # decoded 8-bit RGB of this size takes 150 MB

# Pillow's decoders raise all of these on damaged files: RuntimeError in AVIF, its child NotImplementedError
# in DDS and BLP, AttributeError in SPIDER, AssertionError, KeyError, TypeError and OverflowError in many.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, RuntimeError, TypeError, AttributeError,
    ArithmeticError, AssertionError, Image.DecompressionBombError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourcePicture:
    """An upright picture and who it is."""

    pixels: ImageArray  # (H, W, 3) RGB
    id: str  # hex SHA-256 of size and pixels
    name: str = ""  # path as given, or id of an artifact ("picture-1"); "" for pictures from memory

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]


PictureLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.generic] | SourcePicture


def read_picture(picture: PictureLike) -> SourcePicture:
    """A path, the bytes of a file, a Pillow image or an array as upright RGB.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8 and uint16 over their full range,
    floats in 0..1, or booleans.

    Raises:
        InputError: nothing that can be read, or more than `MAX_PIXELS` pixels.
    """
    if isinstance(picture, SourcePicture):
        return picture
    name = ""
    if isinstance(picture, np.ndarray):
        pixels = _from_array(picture)
    elif isinstance(picture, Image.Image):
        pixels = _decode(picture, what="the picture")
    elif isinstance(picture, bytes):
        pixels = _from_bytes(picture)
    elif isinstance(picture, str | os.PathLike):
        name = os.fspath(picture)
        pixels = _from_path(Path(name))
    else:
        raise InputError(
            f"a picture is a path, bytes, a Pillow image or a numpy array, got {type(picture).__name__}"
        )
    return SourcePicture(pixels=pixels, id=picture_id(pixels), name=name)


def picture_id(pixels: ImageArray) -> str:
    """Content hash: equal pixels of equal size have equal ids, whatever file they came from."""
    digest = hashlib.sha256(struct.pack("<QQ", *pixels.shape[:2]))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _from_path(path: Path) -> ImageArray:
    what = f"picture {str(path)!r}"
    try:
        if path.is_dir():
            raise InputError(f"{what} is a folder; name a picture file in it")
        if not path.is_file():  # a pipe has no size, and cannot be searched
            return _from_bytes(path.read_bytes(), what=what)
        if path.stat().st_size == 0:
            raise InputError(f"{what} is empty (0 bytes); save or download it again")
        with _opened(path, what=what) as image:
            return _decode(image, what=what)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{what} does not exist; check the path") from error
    except PermissionError as error:
        raise InputError(f"{what} may not be read: permission denied") from error
    except (OSError, ValueError) as error:  # a name too long or with a NUL
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} cannot be opened: {one_line(error)}") from error


def _from_bytes(data: bytes, *, what: str = "the picture given as bytes") -> ImageArray:
    if not data:
        raise InputError(f"{what} is empty (0 bytes)")
    with _opened(io.BytesIO(data), what=what) as image:
        return _decode(image, what=what)


def _opened(file: Path | io.BytesIO, *, what: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Our own limit is checked on the header, before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file)
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} has far more than {MAX_PIXELS:,} pixels; scale it down first") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{what} is not a picture that can be read; use PNG, JPEG, WebP, GIF, BMP or TIFF"
        ) from error
    except (FileNotFoundError, PermissionError):
        raise
    except _DAMAGE as error:
        raise InputError(f"{what} is damaged: {one_line(error)}; save or download it again") from error


def _decode(image: Image.Image, *, what: str) -> ImageArray:
    _check_size(image.height, image.width, what=what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata that we do not use
            return _to_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"{what} is cut off or damaged: {one_line(error)}; save or download it again"
        ) from error


def _to_rgb(image: Image.Image) -> ImageArray:
    if image.mode.startswith("I;16"):
        return _from_array(np.asarray(image).astype(np.uint16))
    if image.mode == "I":
        values = np.asarray(image)
        if values.max(initial=0) > 255:
            return _from_array(np.clip(values, 0, 65535).astype(np.uint16))
        return _from_array(np.clip(values, 0, 255).astype(np.uint8))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        return _from_array(np.clip(values if values.max(initial=0.0) <= 1.0 else values / 255.0, 0.0, 1.0))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        canvas.alpha_composite(layer)
        image = canvas
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _from_array(array: NDArray[np.generic]) -> ImageArray:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"a picture array has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {array.shape}"
        )
    _check_size(array.shape[0], array.shape[1], what="the picture array")
    pixels = _eight_bit(array)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint32)
        # Integer compositing on white, rounded: white stays exactly white.
        mixed = pixels[:, :, :3].astype(np.uint32) * alpha + 255 * (255 - alpha)
        pixels = ((mixed + 127) // 255).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels)


def _eight_bit(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    if array.dtype == np.uint16:
        # x / 257 maps 0..65535 onto 0..255; 128 rounds.
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float32)
        if not np.isfinite(values).all() or values.min(initial=0.0) < 0.0 or values.max(initial=0.0) > 1.0:
            raise InputError("a picture array of floats must lie in 0..1; scale it or pass uint8")
        scaled: NDArray[np.uint8] = np.rint(values * 255.0).astype(np.uint8)
        return scaled
    raise InputError(f"a picture array holds uint8, uint16, bool or floats in 0..1, got {array.dtype}")


def _check_size(height: int, width: int, *, what: str) -> None:
    if height < 1 or width < 1:
        raise InputError(f"{what} has no pixels ({width} x {height})")
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{what} has {height * width:,} pixels ({width} x {height}), the limit is {MAX_PIXELS:,}; "
            f"scale it down first"
        )


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks; its type where it has none."""
    # `str(error)`, also for a class of somebody else's whose `__str__` is broken.
    said = str(TracebackException(type(error), error, None))
    return " ".join(said.split()) or type(error).__name__
