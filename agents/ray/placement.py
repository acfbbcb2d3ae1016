"""Placement: how many actors of each kind, on what, and how long they may take.

Plain data, so that it can stand in a JSON or YAML file:

    decoder: {timeout: 30}                      # of every decoder
    decoders:
      sam: {replicas: 2, num_gpus: 0.5}         # of one, beside what is said of all
    router: {num_gpus: 1, max_rows: 32}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from superlink.router.errors import InputError

Kind = TypeVar("Kind", bound="ActorPlacement")

_COUNTS = {"replicas": 1, "threads": 1, "queue": 1, "max_batch": 1, "max_rows": 1, "prefix_bytes": 0}
_SECONDS = ("timeout", "start_timeout")
LONGEST = 1e9  # seconds; clocks of the system cannot wait for much longer
_SHARES = ("num_cpus", "num_gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorPlacement:
    """What holds for the router as for a decoder."""

    replicas: int = 1
    num_cpus: float = 0.25  # what Ray sets aside for one replica; a share only counts, it limits nothing
    num_gpus: float = 0.0  # with any share, the weights are on the GPU
    resources: Mapping[str, float] = field(default_factory=dict)  # the cluster's own kinds, by name
    spread: bool = False  # replicas on different nodes, where there are several
    threads: int = 1  # of torch in one replica
    max_restarts: int = 8  # of one replica; -1 = no limit
    timeout: float = 60.0  # seconds of one call or reply, waiting included
    start_timeout: float = 180.0  # seconds until a replica must be up
    queue: int = 256  # calls or replies that may wait for one replica; more are refused as "busy"
    warm_up: bool = True  # one small piece of work before the first question

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            value = getattr(self, name, least)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"placement: {name} is a whole number from {least}, got {value!r}")
        for name in _SECONDS:
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value <= LONGEST:
                raise InputError(
                    f"placement: {name} is a number of seconds above 0 and up to {LONGEST:g}, got {value!r}"
                )
        for name in _SHARES:
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise InputError(f"placement: {name} is a number from 0, got {value!r}")
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise InputError(f"placement: num_gpus above 1 is a whole number, got {self.num_gpus}")
        restarts: object = self.max_restarts
        if not isinstance(restarts, int) or isinstance(restarts, bool) or restarts < -1:
            raise InputError(
                f"placement: max_restarts is a whole number from 0, or -1 for no limit, got {restarts!r}"
            )
        resources: object = self.resources
        if not isinstance(resources, Mapping) or not all(map(_is_number, resources.values())):
            raise InputError(
                f"placement: resources are amounts by name, as in {{'node_a': 0.1}}, got {resources!r}"
            )
        for name in ("spread", "warm_up"):
            if not isinstance(value := getattr(self, name), bool):
                raise InputError(f"placement: {name} is true or false, got {value!r}")

    @property
    def device(self) -> str:
        return "cuda" if self.num_gpus else "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderPlacement(ActorPlacement):
    """Where the replicas of a decoder go, and how many of its calls run together.

    Raises:
        InputError: a value that makes no sense.
    """

    max_batch: int = 16  # calls of one forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPlacement(ActorPlacement):
    """Where the replicas of the router go, and how many replies each writes together.

    Raises:
        InputError: a value that makes no sense.
    """

    timeout: float = 120.0  # seconds of one reply, waiting included
    max_rows: int = 16  # replies that are written together
    prefix_bytes: int = 256 * 2**20  # memory for the states of prompts, kept for later rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the actors of one model go."""

    router: RouterPlacement = field(default_factory=RouterPlacement)
    decoder: DecoderPlacement = field(default_factory=DecoderPlacement)  # of those not in `decoders`
    decoders: Mapping[str, DecoderPlacement] = field(default_factory=dict)  # by name

    def __post_init__(self) -> None:
        parts = (("router", RouterPlacement), ("decoder", DecoderPlacement))
        for name, kind in parts:
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"placement: {name} is a {kind.__name__}, got {getattr(self, name)!r}")
        for name, own in self.decoders.items():
            if not isinstance(own, DecoderPlacement):
                raise InputError(f"placement: decoder {name!r} needs a DecoderPlacement, got {own!r}")

    def of(self, decoder: str) -> DecoderPlacement:
        """That of one decoder."""
        return self.decoders.get(decoder, self.decoder)

    def check(self, decoders: Sequence[str]) -> None:
        """Refuse places for decoders that the model does not have.

        Raises:
            InputError: there are some.
        """
        unknown = sorted(set(self.decoders) - set(decoders))
        if unknown:
            there = ", ".join(decoders) or "none"
            raise InputError(f"placement: no decoder {unknown[0]!r} in this model; there are {there}")

    def num_cpus(self, decoders: Sequence[str]) -> float:
        """What all actors of a model ask for."""
        own = [self.router, *(self.of(name) for name in decoders)]
        return sum(one.replicas * one.num_cpus for one in own)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Placement:
        """From plain data; what is absent has its default, that of one decoder what `decoder` says.

        Raises:
            InputError: an unknown name, or a value that makes no sense.
        """
        _known(data, [one.name for one in fields(cls)], "placement")
        decoder = _changed(DecoderPlacement(), data.get("decoder", {}), "decoder")
        own = data.get("decoders", {})
        if not isinstance(own, Mapping):
            raise InputError(f"placement: decoders are given by their names, got {own!r}")
        return cls(
            router=_changed(RouterPlacement(), data.get("router", {}), "router"),
            decoder=decoder,
            decoders={name: _changed(decoder, one, f"decoders.{name}") for name, one in own.items()},
        )

    @classmethod
    def read(cls, path: str | Path) -> Placement:
        """From a JSON or YAML file.

        Raises:
            InputError: no such file, or not a placement.
        """
        import yaml

        try:
            data = yaml.safe_load(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"placement {str(path)!r} cannot be read: {reason}") from error
        return cls.from_json({} if data is None else data)


def _changed(base: Kind, data: Any, where: str) -> Kind:
    _known(data, [one.name for one in fields(base)], where)
    return replace(base, **data)


def _known(data: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(data, Mapping):
        raise InputError(f"placement: {where} is given by names, got {data!r}")
    unknown = [name for name in data if name not in names]
    if unknown:
        raise InputError(f"placement: {where} has no {unknown[0]!r}; it has {', '.join(names)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
