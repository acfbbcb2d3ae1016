"""Values of steps as bytes and back, exactly, without pickle: a .npz of arrays and one JSON text."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import fields, is_dataclass
from typing import Any

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


class NotStorable(InputError):
    """A value of a kind that has no stored form."""


def to_bytes(value: Any) -> bytes:
    """The stored form.

    Raises:
        NotStorable: there is none for something in the value.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    text = json.dumps(_plain(value, arrays))
    arrays[_HEAD] = np.frombuffer(text.encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> Any:
    """The value.

    Raises:
        InputError: the bytes are damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return _value(json.loads(arrays[_HEAD].tobytes()), arrays)
    except _DAMAGED as error:
        raise InputError(f"a stored value is damaged: {error}") from error


def _plain(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """JSON data; arrays are moved into `arrays` and named instead.

    Only exact types: a named tuple or an enum would come back as the plain tuple or number.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is np.ndarray and not value.dtype.hasobject:
        name = str(len(arrays))
        if value.dtype == np.bool_:  # masks: a bit a pixel
            arrays[name] = np.packbits(value)
            return {"bits": name, "shape": list(value.shape)}
        arrays[name] = value
        return {"array": name}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {"scalar": name}
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


def _value(data: Any, arrays: Any) -> Any:
    if isinstance(data, list):
        return [_value(one, arrays) for one in data]
    if not isinstance(data, dict):
        return data
    if "array" in data:
        return arrays[data["array"]]
    if "scalar" in data:
        return arrays[data["scalar"]][()]
    if "bits" in data:
        shape = tuple(data["shape"])
        count = int(np.prod(shape))
        return np.unpackbits(arrays[data["bits"]], count=count).astype(np.bool_).reshape(shape)
    if "tuple" in data:
        return tuple(_value(one, arrays) for one in data["tuple"])
    if "dict" in data:
        return {key: _value(one, arrays) for key, one in data["dict"].items()}
    own = {key: _value(one, arrays) for key, one in data["fields"].items()}
    return _CLASSES[data["class"]](**own)
