"""What must not change between the starts of one run, or resuming would not be exact.

Out of it stays what may: workers, threads and devices, micro-batches, what is logged, validated and kept,
and the weights that a fresh run begins with, of which a checkpoint has its own. A step repeats whatever
these are.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from superlink.agents.embedded import embedded_models
from superlink.workflows.train.config import Stage, TrainConfig
from superlink.workflows.train.kept_links import KEPT_LINKS
from superlink.workflows.train.looks import LOOKS

# Checkpoints of earlier versions do not have these, and go on without.
LATER = frozenset({"start", "data", "rates", "learned", "losses", "optimizer", "lora", "held", "looking"})

_MORE = 4  # keys named beside the first one that differs
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_NONE = object()


def run_identity(config: TrainConfig) -> dict[str, object]:
    """Plain data, as JSON gives it back."""
    average = config.average
    muon = [group.glob for group in config.groups if group.muon]  # AdamW cannot go on from its moments
    # Each worker chooses among its own rows.
    chosen = [[s.name, s.hardest, config.workers] for s in config.stages if s.hardest < 1]
    found: dict[str, object] = {
        **({"muon": muon} if muon else {}),
        **({"hardest": chosen} if chosen else {}),
        "average": None if average is None else [*average.globs, average.decay],
        "seed": config.seed,
        "stages": [
            [
                stage.name,
                stage.steps,
                stage.global_batch or config.global_batch,
                [s.name for s in stage.mixture],
            ]
            for stage in config.stages
        ],
        "start": _start(config),
        "data": {stage.name: _data(stage) for stage in config.stages},
        "rates": {
            stage.name: {"lr": stage.lr, "warmup": stage.warmup, "floor": stage.floor}
            for stage in config.stages
        },
        "learned": {
            stage.name: {
                "lesson": stage.lesson,
                "trainable": [*stage.trainable],
                "image_side": stage.image_side,
                "begins_as": dict(stage.begins_as),
            }
            for stage in config.stages
        },
        "losses": dict(config.loss_weights),
        "optimizer": {
            "clip": config.clip,
            "weight_decay": config.weight_decay,
            "betas": [*config.betas],
            "groups": [described(group) for group in config.groups],
        },
        "lora": None if config.lora is None else described(config.lora),
        "held": _held(config),
        "looking": _looking(config),
    }
    plain: dict[str, object] = json.loads(json.dumps(found))
    return plain


def differences(stored: Mapping[str, object], own: Mapping[str, object]) -> str:
    """What differs between two identities, in words for "comes from a run with ..."; "" = nothing.

    Args:
        stored: of a checkpoint, maybe of an earlier version.
        own: of the run that would go on.
    """
    compared = {key: value for key, value in own.items() if key in stored or key not in LATER}
    found = sorted(_different(stored, compared), key=lambda one: one[0])
    if not found:
        return ""
    (key, before, now), *rest = found
    names = [name for name, _, _ in rest]
    more = f" ({', '.join(names[:_MORE])}{' ...' if len(names) > _MORE else ''} differ too)" if names else ""
    return f"{key} = {_shown(before)}, this one has {_shown(now)}{more}"


def described(value: object) -> object:
    """A value as plain data that is the same in every process.

    Of a file also its length; of a partial call its function and arguments; of what is no data its type.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return [str(value), value.stat().st_size] if value.is_file() else str(value)
    if isinstance(value, partial):
        return {
            "call": described(value.func),
            **{str(place): described(one) for place, one in enumerate(value.args)},
            **{name: described(one) for name, one in value.keywords.items()},
        }
    if is_dataclass(value) and not isinstance(value, type):
        # Without what is at its default: a field that a later version adds is then no difference.
        own = {one.name: described(getattr(value, one.name)) for one in fields(value)}
        return {one.name: own[one.name] for one in fields(value) if own[one.name] != _default(one)}
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, Set):
        return sorted((described(one) for one in value), key=str)
    if isinstance(value, list | tuple | range):
        return [described(one) for one in value]
    named: Any = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _default(field: Field[Any]) -> object:
    if field.default_factory is not MISSING:
        return described(field.default_factory())
    return _NONE if field.default is MISSING else described(field.default)


def _start(config: TrainConfig) -> object:
    """The model that a run begins with; whether fresh modules fit is told by their weights."""
    folder = getattr(config.system, "folder", None)
    if folder is None:
        return None
    # An embedded model lies wherever the package is installed.
    names = [name for name, path in embedded_models().items() if path.resolve() == Path(folder).resolve()]
    return names[0] if names else str(folder)


def _held(config: TrainConfig) -> object:
    """How links are held, and to which weights: those that a run begins with are read at every start then."""
    if config.loss_weights.get(KEPT_LINKS, 0.0) <= 0:
        return None
    weights = None if config.weights is None else str(config.weights)
    return {"weights": weights, "share": config.kept_links_share}


def _looking(config: TrainConfig) -> object:
    asks = any(config.loss_weights.get(name, 0.0) > 0 for name in LOOKS)
    return described(config.looking) if asks else None


def _data(stage: Stage) -> object:
    return {
        f"{number}-{source.name}": {"weight": source.weight, "open": described(source.open)}
        for number, source in enumerate(stage.mixture, start=1)
    }


def _different(
    stored: Mapping[str, object], own: Mapping[str, object], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Dotted keys that differ, with both values; a missing one is None in words."""
    for key in {**stored, **own}:
        before, now = stored.get(key, _NONE), own.get(key, _NONE)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _different(before, now, f"{prefix}{key}.")
        elif before != now:
            yield f"{prefix}{key}", before, now


def _shown(value: object) -> str:
    return "None" if value is _NONE else _SHORT.repr(value)
