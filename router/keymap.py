"""State-dict names: this project's and those of the published VisionLLM v2 checkpoints.

One list of prefixes holds the whole map, read in both directions. A checkpoint of the complete
published system also holds its decoders; `split_published` sets those apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from superlink.router.errors import ModelError

if TYPE_CHECKING:
    from superlink.router.model import Router

# (ours, published); "*" stands for one dotted part
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("vision_tower.", "vis_encoder.vision_model."),
    ("llm.", "llm."),
    ("bridge.", "vl_bridge."),
    ("places.", "vl_places."),  # ours alone
    ("region_encoder.stem.", "region_encoder.mask_embedding."),
    ("region_encoder.query.", "region_encoder.region_query."),
    ("region_encoder.attention.", "region_encoder.region_attn."),
    ("region_encoder.project.", "region_encoder.up_dim."),
    ("queries.*.", "emb_embeddings_*."),
)
_SHOWN = 8  # names listed in a message


def published_name(name: str) -> str:
    """The published name of one of this router's tensors."""
    return _renamed(name, [(ours, theirs) for ours, theirs in _PREFIXES])


def our_name(published: str) -> str:
    """This router's name of a published tensor."""
    return _renamed(published, [(theirs, ours) for ours, theirs in _PREFIXES])


def published_state(router: Router) -> dict[str, Tensor]:
    """All tensors of a router under their published names, sharing their storage."""
    return {published_name(name): tensor for name, tensor in router.state_dict().items()}


def split_published(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The router's part of a published checkpoint, and the rest (decoders), names unchanged."""
    known = [re.compile(_pattern(theirs)[0]) for _, theirs in _PREFIXES]
    ours = {name: t for name, t in state.items() if any(prefix.match(name) for prefix in known)}
    return ours, {name: t for name, t in state.items() if name not in ours}


def load_published(router: Router, state: Mapping[str, Tensor]) -> None:
    """Load the router's part of a published checkpoint.

    Raises:
        ModelError: tensors are missing, unknown or of another shape.
    """
    load_strictly(
        router, {our_name(name): tensor for name, tensor in state.items()}, "the published checkpoint"
    )


def load_strictly(module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy `state` into a module whose tensors have exactly the same names and shapes.

    Buffers of position numbers, which older versions of transformers saved, may be there or not.

    Raises:
        ModelError: tensors are missing, unknown, of another shape, or whole numbers in place of fractions,
            which quantised weights are; all are named.
    """
    expected = module.state_dict()
    found = {name: t for name, t in state.items() if name in expected or not _is_position_buffer(name)}
    absent = {name for name in expected if name not in found}
    missing = sorted(name for name in absent if not _is_position_buffer(name))
    unknown = sorted(found.keys() - expected.keys())
    reshaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    quantised = [
        f"{name} {found[name].dtype} instead of {tensor.dtype}"
        for name, tensor in expected.items()
        if name in found and found[name].is_floating_point() != tensor.is_floating_point()
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing: {_listed(_with_shape(missing, expected))}")
    if unknown:
        problems.append(f"{len(unknown)} unknown: {_listed(_with_shape(unknown, found))}")
    if reshaped:
        problems.append(f"{len(reshaped)} of another shape: {_listed(reshaped)}")
    if quantised:
        problems.append(f"{len(quantised)} of another kind: {_listed(quantised)}")
    if problems:
        raise ModelError(
            f"{what} does not fit this configuration: {'; '.join(problems)}; "
            f"use the config.json and the weights of the same model"
        )
    module.load_state_dict({**{name: expected[name] for name in absent}, **found})


def _is_position_buffer(name: str) -> bool:
    return name.rpartition(".")[2] == "position_ids"


def _with_shape(names: list[str], tensors: Mapping[str, Tensor]) -> list[str]:
    return [f"{name} {tuple(tensors[name].shape)}" for name in names]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _pattern(prefix: str) -> tuple[str, str]:
    """A prefix as a regular expression and as its replacement text."""
    return re.escape(prefix).replace(r"\*", r"(\w+)"), prefix.replace("*", r"\1")


def _renamed(name: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        renamed, times = re.subn("^" + _pattern(old)[0], _pattern(new)[1], name)
        if times:
            return renamed
    raise ModelError(
        f"tensor {name!r} belongs to no part of a router, which starts with one of "
        f"{', '.join(old for old, _ in pairs)}; split decoders off first"
    )
