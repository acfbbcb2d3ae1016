"""Standard output of a command, which programs read."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast


def whole_streams() -> None:
    """Put the null device where a standard stream is closed (`>&-`), which Python says by None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until the process ends


@contextmanager
def own_stdout() -> Iterator[None]:
    """Keep what other threads print off standard output; it goes to standard error.

    Ray tells of lost nodes and actors on standard output, in a thread of its own and at any time.
    """
    stream: Any = _OfThisThread(sys.stdout)
    with redirect_stdout(cast(TextIO, stream)):
        yield


class _OfThisThread:
    """A stream for the thread that made it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        own = threading.get_ident() == self._thread
        return (self._stream if own else sys.stderr).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
