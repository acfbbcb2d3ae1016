"""Files that are never seen half-written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from superlink.router.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to become the file `path`: it takes that name when the block ends well.

    Missing folders are made. Threads and processes that write one file do not meet: the last one wins.

    What a link points to is replaced, not the link.

    Raises:
        InputError: the place cannot be written, or is a device or a pipe; what was there before is kept.
    """
    try:
        path = path.resolve() if path.is_symlink() else path
        special = path.exists() and not (path.is_file() or path.is_dir())
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    if special:
        raise InputError(f"cannot write {str(path)!r}: it is no regular file; name another")
    # In the same folder, so that the last step is a rename. The process comes last: see `Writer._sweep`.
    part = path.with_name(f".{path.name[:40]}.{threading.get_ident():x}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file so that it is never seen half-written; missing folders are made.

    Raises:
        InputError: the place cannot be written.
    """
    with whole_file(path) as part:
        part.write_bytes(data)
    return path
