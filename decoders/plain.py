"""Configurations of decoders as plain data, for `config.json`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture, Text
from superlink.decoders.contract import DecoderConfig, Route
from superlink.router.errors import ModelError
from superlink.router.tokens import RoutingToken

Config = TypeVar("Config", bound=DecoderConfig)

_RETURNS: dict[str, type[Artifact]] = {
    kind.__name__.lower(): kind for kind in (Boxes, Masks, Keypoints, Picture, Text)
}


def to_plain(config: DecoderConfig) -> dict[str, Any]:
    """What JSON can hold of a dataclass: dictionaries for parts and mappings, lists for tuples."""
    own: Any = config
    return {field.name: _plain(getattr(own, field.name)) for field in fields(own)}


def from_plain(kind: type[Config], data: Mapping[str, Any], parts: Mapping[str, type[Any]]) -> Config:
    """A configuration from what `to_plain` made of it; absent fields have their defaults.

    Args:
        parts: classes of the fields that are dataclasses themselves.

    Raises:
        ModelError: an unknown field, or a route to no kind of artifact.
    """
    own: Any = kind
    unknown = sorted(set(data) - {field.name for field in fields(own)})
    if unknown:
        raise ModelError(f"a {kind.__name__} has no fields {', '.join(unknown)}")
    read: dict[str, Any] = {}
    for name, value in data.items():
        if name == "routes":
            read[name] = tuple(_route(route) for route in value)
        elif name in parts and value is not None:
            part = parts[name]
            read[name] = part.from_json(value) if issubclass(part, DecoderConfig) else part(**value)
        else:
            read[name] = tuple(value) if isinstance(value, list) else value
    config: Config = kind(**read)
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, DecoderConfig):
        return value.to_json()
    if isinstance(value, Route):
        return _plain_route(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value


def _plain_route(route: Route) -> dict[str, Any]:
    returns = next(name for name, kind in _RETURNS.items() if kind is route.returns)
    data: dict[str, Any] = {"token": asdict(route.token), "returns": returns, "top": route.top}
    if route.after is not None:
        data["after"] = route.after
    if route.takes:
        data["takes"] = [asdict(token) for token in route.takes]
    return data


def _route(data: Mapping[str, Any]) -> Route:
    returns = _RETURNS.get(data["returns"])
    if returns is None:
        raise ModelError(f"a route returns one of {', '.join(_RETURNS)}, not {data['returns']!r}")
    return Route(
        token=RoutingToken(**data["token"]),
        returns=returns,
        top=data["top"],
        after=data.get("after"),
        takes=tuple(RoutingToken(**token) for token in data.get("takes", ())),
    )
