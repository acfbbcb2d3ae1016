"""What a command prints for programs to read is its own."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest

from superlink.streams import own_stdout, whole_streams


def test_what_other_threads_print_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with own_stdout():
        sys.stdout.write('{"a": ')
        other = threading.Thread(target=print, args=("(raylet) a node is lost",))
        other.start()
        other.join()
        sys.stdout.write("1}\n")
        sys.stdout.flush()
    assert sys.stdout is before
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert captured.err == "(raylet) a node is lost\n"


def test_an_error_gives_standard_output_back() -> None:
    before = sys.stdout
    with pytest.raises(KeyError), own_stdout():
        raise KeyError
    assert sys.stdout is before


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_the_null_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    whole_streams()
    with getattr(sys, name) as stream:
        assert stream.name == os.devnull
        assert stream.read() == "" if name == "stdin" else stream.write("lost")
