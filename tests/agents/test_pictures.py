"""Reading pictures, checked against arrays that the tests write themselves."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from superlink.agents.pictures import MAX_PIXELS, picture_id, read_picture
from superlink.router.errors import InputError

RNG = np.random.default_rng(0)


def rgb(height: int = 20, width: int = 30) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_path_bytes_pillow_image_and_array_give_the_same_picture(tmp_path: Path) -> None:
    pixels = rgb()
    path = tmp_path / "scene.png"
    Image.fromarray(pixels).save(path)
    forms = [str(path), path, path.read_bytes(), Image.open(path), pixels]
    read = [read_picture(form) for form in forms]
    for one in read:
        np.testing.assert_array_equal(one.pixels, pixels)
    assert len({one.id for one in read}) == 1
    assert read[0].name == str(path)
    assert read[2].name == ""


def test_the_id_tells_pictures_apart_by_content_and_by_shape() -> None:
    flat = np.zeros((2, 6, 3), np.uint8)
    assert picture_id(flat) != picture_id(flat.reshape(3, 4, 3))
    changed = flat.copy()
    changed[1, 5, 2] = 1
    assert picture_id(flat) != picture_id(changed)


# What each EXIF orientation means (Exif 2.3, tag 0x0112): how to turn the stored array upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", sorted(UPRIGHT))
def test_exif_orientation_is_applied(orientation: int) -> None:
    pixels = rgb()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(read_picture(data).pixels, UPRIGHT[orientation](pixels))


def test_grey_becomes_three_equal_channels() -> None:
    grey = rgb()[:, :, 0]
    read = read_picture(encoded(Image.fromarray(grey))).pixels
    np.testing.assert_array_equal(read, np.stack([grey] * 3, axis=2))


def test_sixteen_bit_grey_is_scaled_not_cut() -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    read = read_picture(encoded(Image.fromarray(values))).pixels
    np.testing.assert_array_equal(read[0, :, 0], [0, 1, 128, 255])
    np.testing.assert_array_equal(read_picture(values).pixels, read)


def test_sixteen_bit_tiff_is_scaled_too() -> None:
    values = np.array([[0, 65535]], np.uint16)
    read = read_picture(encoded(Image.fromarray(values), "TIFF")).pixels
    np.testing.assert_array_equal(read[0, :, 0], [0, 255])


def test_transparent_pixels_show_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 128, 255)
    expected = [255, 127, 0]
    for form in (encoded(Image.fromarray(rgba)), rgba):
        read = read_picture(form).pixels
        np.testing.assert_allclose(read[0, :, 0].astype(int), expected, atol=1)


def test_a_palette_with_a_transparent_colour_shows_white_there() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    read = read_picture(encoded(image, transparency=0)).pixels
    np.testing.assert_array_equal(read[0], [[255, 255, 255], [200, 100, 50]])


def test_cmyk_becomes_rgb() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = read_picture(encoded(cyan, "JPEG")).pixels[8, 8].tolist()
    assert red < 20
    assert green > 230
    assert blue > 230


def test_floats_and_booleans_are_scaled_to_eight_bits() -> None:
    np.testing.assert_array_equal(read_picture(np.array([[0.0, 0.5, 1.0]])).pixels[0, :, 0], [0, 128, 255])
    np.testing.assert_array_equal(read_picture(np.array([[False, True]])).pixels[0, :, 0], [0, 255])


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4]))))
def test_any_eight_bit_array_is_read_like_its_png(array: np.ndarray) -> None:
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    from_file = read_picture(encoded(image)).pixels.astype(int)
    from_array = read_picture(array).pixels.astype(int)
    assert from_array.shape == (*array.shape[:2], 3)
    np.testing.assert_allclose(from_array, from_file, atol=1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 20_000)])
def test_extreme_shapes_are_read(height: int, width: int) -> None:
    assert read_picture(encoded(Image.new("RGB", (width, height)))).size == (height, width)


def bare_png(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 40_000])
def test_too_many_pixels_are_refused_before_decoding_and_the_limit_is_told(side: int) -> None:
    with pytest.raises(InputError, match=f"{MAX_PIXELS:,}"):
        read_picture(bare_png(side, side))


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(rgb(200, 200)), "JPEG")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.png").write_bytes(encoded(Image.fromarray(rgb(200, 200)))[:5000])
    (tmp_path / "header.png").write_bytes(bare_png(10, 10)[:20])
    (tmp_path / "hollow.png").write_bytes(bare_png(10, 10))
    cases = {
        tmp_path / "missing.png": "does not exist",
        tmp_path / "empty.png" / "below.png": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "empty.png": "0 bytes",
        tmp_path / "text.png": "not a picture",
        tmp_path / "cut.jpg": "cut off or damaged",
        tmp_path / "cut.png": "cut off or damaged",
        tmp_path / "header.png": "damaged|not a picture",
        tmp_path / "hollow.png": "cut off or damaged",
        Path("x" * 5000): "cannot be opened",
        Path("nul\0byte.png"): "cannot be opened|does not exist",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "place", "value", "words"),
    [
        ("DDS", 80, b"\x80\0\0\0", "Unknown pixel format flags 128"),  # NotImplementedError
        ("BLP", 4, b"\x7f", "Unknown BLP compression"),  # a class of its own
        ("SPIDER", 104, struct.pack("=f", 1.0), ""),  # AttributeError
    ],
)
def test_whatever_a_decoder_raises_of_a_damaged_file_is_one_line(
    kind: str, place: int, value: bytes, words: str
) -> None:
    image = Image.new({"BLP": "P", "SPIDER": "F"}.get(kind, "RGB"), (16, 16))
    data = bytearray(encoded(image, kind))
    data[place : place + len(value)] = value
    with pytest.raises(InputError, match=f"damaged: {words}"):
        read_picture(bytes(data))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"GIF89a",
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.full((4, 4), 2.0),
        np.full((4, 4), np.nan),
        np.zeros((4, 4), np.int64),
        17,
        None,
    ],
)
def test_things_that_are_no_pictures_are_refused(bad: object) -> None:
    with pytest.raises(InputError):
        read_picture(bad)  # type: ignore[arg-type]


def test_a_picture_comes_through_a_pipe(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file, pipe = tmp_path / "a.png", tmp_path / "pipe.png"
    Image.fromarray(pixels).save(file)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(file.read_bytes(),))
    writer.start()
    np.testing.assert_array_equal(read_picture(pipe).pixels, pixels)
    writer.join()
