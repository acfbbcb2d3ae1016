"""Files appear whole or not at all, whoever else writes them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from superlink.decoders.files import whole_file, write_whole
from superlink.decoders.png import save_picture
from superlink.router.errors import InputError


def test_threads_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "value.bin"
    texts = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda text: write_whole(path, text), texts * 20))
    assert written == [path] * 160
    assert path.read_bytes() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_written_through_and_pipes_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "there" / "real.json")
    write_whole(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "real.json").read_bytes() == b"new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="no regular file"):
        write_whole(pipe, b"new")
    assert pipe.is_fifo()


def test_a_name_that_is_too_long_is_one_line_and_one_that_just_fits_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write.*name too long"):
        write_whole(tmp_path / ("x" * 300), b"")
    with pytest.raises(InputError, match=r"cannot write.*name too long"):
        save_picture(np.zeros((2, 2, 3), np.uint8), tmp_path / ("x" * 300 + ".png"))
    just = write_whole(tmp_path / ("ü" * 125 + ".json"), b"{}")
    assert list(tmp_path.iterdir()) == [just]


def test_what_was_there_stays_when_the_new_file_fails(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "kept.txt", b"before")

    def cut_off(part: Path) -> None:
        part.write_bytes(b"aft")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"), whole_file(path) as part:
        cut_off(part)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
