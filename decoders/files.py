"""Files that are never seen half-written."""

from __future__ import annotations

import os
from pathlib import Path

from superlink.router.errors import InputError


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file so that it is never seen half-written; missing folders are made.

    Raises:
        InputError: the place cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path
