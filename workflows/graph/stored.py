"""Values of steps as bytes and back, exactly, without pickle: an archive of arrays' bytes and one JSON text.

Not a .npz: numpy reads the header of each array with Python's own parser, which fails now and then where
several threads parse at once (Python 3.11: "AST constructor recursion depth mismatch").
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import numpy as np

from superlink.agents.pictures import SourcePicture
from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Origin, Picture, Text
from superlink.router.errors import InputError
from superlink.workflows.graph.image import Image, Window

_CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Boxes, Masks, Keypoints, Picture, Text, Origin, Image, SourcePicture, Window)
}
_HEAD = "json"
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,  # an archive that seems to be encrypted, or of another version
    zlib.error,
    zipfile.BadZipFile,
)
# Values that hold themselves, numbers of thousands of digits, more than there is memory for.
_UNWRITABLE = (RecursionError, ValueError, OverflowError, MemoryError)


class NotStorable(InputError):
    """A value of a kind that has no stored form."""


def to_bytes(value: Any) -> bytes:
    """The stored form.

    Raises:
        NotStorable: there is none for something in the value.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    file = io.BytesIO()
    try:
        text = json.dumps(_plain(value, arrays))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_HEAD, text)
            for name, array in arrays.items():
                archive.writestr(name, array.tobytes("A"))
        return file.getvalue()
    except _UNWRITABLE as error:
        raise NotStorable(f"{type(value).__name__} has no stored form: {error}") from error


def from_bytes(data: bytes) -> Any:
    """The value.

    Raises:
        InputError: the bytes are damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _value(json.loads(archive.read(_HEAD)), archive)
    except _DAMAGED as error:
        raise InputError(f"a stored value is damaged: {error}") from error


def _plain(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """JSON data; arrays are moved into `arrays` and named instead.

    Only exact types: a named tuple or an enum would come back as the plain tuple or number.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is np.ndarray and _has_bytes(value.dtype):
        name = str(len(arrays))
        if value.dtype == np.bool_:  # masks: a bit a pixel
            arrays[name] = np.packbits(value)
            return {"bits": name, "shape": list(value.shape)}
        arrays[name] = value
        order = "F" if value.flags.fnc else "C"  # sums over another layout differ in last digits
        return {"array": name, "dtype": value.dtype.str, "shape": list(value.shape), "order": order}
    if isinstance(value, np.generic) and _has_bytes(value.dtype):
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {"scalar": name, "dtype": value.dtype.str}
    if kind is list:
        return [_plain(one, arrays) for one in value]
    if kind is tuple:
        return {"tuple": [_plain(one, arrays) for one in value]}
    if kind is dict and all(type(key) is str for key in value):
        return {"dict": {key: _plain(one, arrays) for key, one in value.items()}}
    if is_dataclass(value) and _CLASSES.get(kind.__name__) is kind:
        own = {one.name: _plain(getattr(value, one.name), arrays) for one in fields(value)}
        return {"class": kind.__name__, "fields": own}
    raise NotStorable(f"{kind.__name__} has no stored form")


def _has_bytes(dtype: np.dtype[Any]) -> bool:
    """Whether its elements are their bytes, and its name says all of it: no objects, no records."""
    return not dtype.hasobject and dtype.names is None and np.dtype(dtype.str) == dtype


def _value(data: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(data, list):
        return [_value(one, archive) for one in data]
    if not isinstance(data, dict):
        return data
    if "array" in data:
        return _array(archive.read(data["array"]), data["dtype"], tuple(data["shape"]), data["order"])
    if "scalar" in data:
        return _array(archive.read(data["scalar"]), data["dtype"], (), "C")[()]
    if "bits" in data:
        shape = tuple(data["shape"])
        bits = np.frombuffer(archive.read(data["bits"]), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).astype(np.bool_).reshape(shape)
    if "tuple" in data:
        return tuple(_value(one, archive) for one in data["tuple"])
    if "dict" in data:
        return {key: _value(one, archive) for key, one in data["dict"].items()}
    own = {key: _value(one, archive) for key, one in data["fields"].items()}
    return _CLASSES[data["class"]](**own)


def _array(data: bytes, dtype: str, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray[Any, Any]:
    """An array of its own that can be written to."""
    return np.ndarray(shape, np.dtype(dtype), bytearray(data), order=order)
