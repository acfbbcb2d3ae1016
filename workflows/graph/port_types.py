"""Types of ports: plain Python types with the names that messages and files use.

A type is a class, a union, `list[...]` or `Any`. A `Picture` is taken where an `Image` is expected, and
whole numbers where numbers are; nothing else is converted between steps.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

import numpy as np

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture, Text
from superlink.workflows.graph.image import Image

PortType = Any  # a class, a union of them, list[...] or typing.Any

ITEMS: PortType = Boxes | Masks | Keypoints

_NAMED: dict[str, PortType] = {
    "Image": Image,
    "Boxes": Boxes,
    "Masks": Masks,
    "Keypoints": Keypoints,
    "Picture": Picture,
    "Text": Text,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "dict": dict,
    "list": list,
    "None": type(None),
    "Any": Any,
}
DEEPEST = 20  # levels of lists in the name of a type
_NAME_OF = {kind: name for name, kind in _NAMED.items()}


def name_of(kind: PortType) -> str:
    """ "Boxes | Masks", "list[Image]", "Any"."""
    if kind is None:
        return "None"
    if members := _members(kind):
        return " | ".join(dict.fromkeys(name_of(member) for member in members))
    if origin_of(kind) is list:
        return f"list[{', '.join(name_of(argument) for argument in get_args(kind))}]"
    return str(_NAME_OF.get(kind) or getattr(kind, "__name__", kind))


def from_name(text: str) -> PortType:
    """The type that `name_of` wrote.

    Raises:
        ValueError: no type is called that.
    """
    given: object = text
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"a type is one of {', '.join(_NAMED)}, list[...] or A | B, got {text!r}")
    if text.count("[") > DEEPEST:
        raise ValueError(f"lists in lists go {DEEPEST} deep at most")
    parts = _split(text)
    if len(parts) > 1:
        return _union([from_name(part) for part in parts])
    text = text.strip()
    if text.startswith("list[") and text.endswith("]"):
        return list_of(from_name(text[5:-1]))
    if text not in _NAMED:
        raise ValueError(f"no type {text!r}; there are {', '.join(_NAMED)}, list[...] and A | B")
    return _NAMED[text]


def is_named(kind: PortType) -> bool:
    """Whether a file can name the type."""
    try:
        return bool(from_name(name_of(kind)) == normal(kind))
    except ValueError:
        return False


def normal(kind: PortType) -> PortType:
    """The type as annotations may write it, in the form that is compared: None and `Optional` resolved."""
    if kind is None:
        return type(None)
    if members := _members(kind):
        return _union([normal(member) for member in members])
    return kind


def fits(given: PortType, expected: PortType) -> bool:
    """Whether every value of one type can go into a port of the other."""
    if given is Any or expected is Any:
        return True
    given, expected = normal(given), normal(expected)
    if members := _members(given):
        return all(fits(member, expected) for member in members)
    if members := _members(expected):
        return any(fits(given, member) for member in members)
    if origin_of(expected) is list:
        if given is list:
            return True
        return origin_of(given) is list and fits(get_args(given)[0], get_args(expected)[0])
    if origin_of(given) is list:
        return expected in (list, object)
    if expected is Image and given is Picture:
        return True
    if expected is float and given is int:
        return True
    plain_given, plain_expected = origin_of(given) or given, origin_of(expected) or expected
    if plain_given is bool and plain_expected in (int, float):
        return False  # a yes is no number
    if not (_is_class(plain_given) and _is_class(plain_expected)):
        return True  # literals, protocols and the like say nothing that could be looked at
    return issubclass(plain_given, plain_expected)


def holds(value: object, kind: PortType) -> bool:
    """Whether a value is of a type."""
    if kind is Any:
        return True
    if members := _members(kind):
        return any(holds(value, member) for member in members)
    if kind is None:
        return value is None
    if origin_of(kind) is list:
        (element,) = get_args(kind)
        return isinstance(value, list | tuple) and all(holds(one, element) for one in value)
    if kind is float:
        return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    plain = origin_of(kind) or kind
    return isinstance(value, plain) if _is_class(plain) else True


def check_of(kind: PortType) -> Callable[[object], bool] | None:
    """A quick form of `holds` for one type; None where anything goes."""
    if kind is Any or kind is object:
        return None
    if _is_class(kind) and kind not in (int, float, bool) and origin_of(kind) is None:
        return lambda value: isinstance(value, kind)
    return lambda value: holds(value, kind)


def conversion(given: PortType, expected: PortType) -> Callable[[Any], Any] | None:
    """What a value goes through on its way into a port; None where it stays as it is."""
    wants_image = expected is Image or (Image in _members(expected) and Picture not in _members(expected))
    may_be_picture = given is Any or given is Picture or Picture in _members(given)
    if wants_image and may_be_picture:
        return lambda value: Image.of(value) if isinstance(value, Picture) else value
    wanted = [element_of(one) for one in _members(expected) or (expected,) if origin_of(one) is list]
    given_lists = [element_of(one) for one in _members(given) or (given,) if list in (one, origin_of(one))]
    if given is Any:
        given_lists = [Any]
    if not wanted or not given_lists:
        return None
    inner = conversion(union_of(*given_lists), union_of(*wanted))
    if inner is None:
        return None
    return lambda value: [inner(one) for one in value] if isinstance(value, list | tuple) else value


def union_of(*kinds: PortType) -> PortType:
    """The type of values that are of one of the types."""
    return Any if Any in kinds else _union([normal(kind) for kind in kinds])


def origin_of(kind: PortType) -> Any:
    """`list` of list[...]; None for a plain class."""
    return get_origin(kind)


def list_of(kind: PortType) -> PortType:
    """The type of lists of values of a type."""
    return types.GenericAlias(list, (kind,))


def element_of(kind: PortType) -> PortType:
    """The type of a list's elements."""
    return get_args(kind)[0] if get_args(kind) else Any


def _is_class(kind: PortType) -> bool:
    """Whether values can be asked for their class; a protocol may not allow that."""
    if not isinstance(kind, type):
        return False
    return not getattr(kind, "_is_protocol", False) or getattr(kind, "_is_runtime_protocol", False)


def _members(kind: PortType) -> tuple[PortType, ...]:
    return get_args(kind) if origin_of(kind) in (Union, types.UnionType) else ()


def _union(kinds: list[PortType]) -> PortType:
    return Union[tuple(kinds)]  # noqa: UP007  # made when it runs


def _split(text: str) -> list[str]:
    """The parts around "|" that stand in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
