"""Recorded numbers of the published systems: where they lie and how they are read.

A case is a folder with `meta.json` and safetensors files named `<sub>.inputs`, `<sub>.expected`,
`<sub>.weights` (or plain `inputs`, `expected`, `weights`). The folder of cases is named by the
environment variable SUPERLINK_PARITY; without it, a copy in tests/fixtures/parity is used.
Widths, depths, counts and switches are read from `meta.json`: another set of the same layout works.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One recorded case."""

    folder: Path
    meta: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.meta["config"]
        return config

    @property
    def subcases(self) -> dict[str, Any]:
        found: dict[str, Any] = self.meta.get("subcases", {})
        return found

    def tensors(self, name: str) -> Tensors:
        """The tensors of `<name>.safetensors`."""
        return load_file(self.folder / f"{name}.safetensors")

    def inputs(self, sub: str | None = None) -> Tensors:
        return self.tensors(_joined(sub, "inputs"))

    def expected(self, sub: str | None = None) -> Tensors:
        return self.tensors(_joined(sub, "expected"))

    def weights(self, sub: str | None = None) -> Tensors:
        return self.tensors(_joined(sub, "weights"))


def parity_folder() -> Path:
    named = os.environ.get("SUPERLINK_PARITY")
    return Path(named) if named else Path(__file__).parents[1] / "fixtures" / "parity"


def parity_case(name: str) -> Case:
    """The case `name`, such as "a_region_encoder"; skips the test where the set lacks it."""
    folder = parity_folder() / name
    if not (folder / "meta.json").is_file():
        pytest.skip(f"{parity_folder()} has no case {name!r}")
    return Case(folder, json.loads((folder / "meta.json").read_text()))


def original_case(name: str) -> Case:
    """A case recorded from an original package, such as "sam".

    The folder of these cases is named by SUPERLINK_PARITY_ORIGINALS; without it the test is skipped.
    """
    named = os.environ.get("SUPERLINK_PARITY_ORIGINALS")
    if not named:
        pytest.skip("SUPERLINK_PARITY_ORIGINALS names no folder of cases recorded from original packages")
    folder = Path(named) / name
    if not (folder / "meta.json").is_file():
        pytest.skip(f"{named} has no case {name!r}")
    return Case(folder, json.loads((folder / "meta.json").read_text()))


def subcase_names(name: str) -> list[str]:
    """Names of the sub-cases, for parametrisation at collection time; empty where the case is absent."""
    meta = parity_folder() / name / "meta.json"
    return list(json.loads(meta.read_text()).get("subcases", {})) if meta.is_file() else []


def indexed(tensors: Tensors, prefix: str) -> list[Tensor]:
    """`prefix.0`, `prefix.1`, ... in order."""
    found = []
    while f"{prefix}.{len(found)}" in tensors:
        found.append(tensors[f"{prefix}.{len(found)}"])
    return found


def under(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def assert_close(found: Tensor, expected: Tensor, *, atol: float = 1e-4, rtol: float = 1e-4) -> None:
    """Same shape, same pattern of infinite entries, and finite values within the tolerance."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, recorded {tuple(expected.shape)}"
    finite = torch.isfinite(expected)
    torch.testing.assert_close(torch.isfinite(found), finite, msg="other entries are infinite than recorded")
    torch.testing.assert_close(found[~finite], expected[~finite].to(found.dtype), equal_nan=True)
    torch.testing.assert_close(found[finite], expected[finite].to(found.dtype), atol=atol, rtol=rtol)


def assert_embedding(found: Tensor, expected: Tensor) -> None:
    """Embeddings, boxes and keypoints."""
    assert_close(found, expected, atol=1e-5, rtol=1e-5)


def assert_loss(found: Tensor | float, expected: Tensor | float) -> None:
    """Loss terms and gradient norms: relative 1e-4."""
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=torch.float64).detach(),
        torch.as_tensor(expected, dtype=torch.float64),
        atol=1e-7,
        rtol=1e-4,
    )


def _joined(sub: str | None, kind: str) -> str:
    return kind if sub is None else f"{sub}.{kind}"
