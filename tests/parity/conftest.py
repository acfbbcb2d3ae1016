"""Parity tests compare with numbers recorded on one thread in float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.parity.fixtures import Case, Tensors, parity_case


@pytest.fixture(autouse=True)
def _float32_on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """The recorded case that the test's module names in `CASE`."""
    return parity_case(request.module.CASE)


@pytest.fixture(scope="module")
def weights(case: Case) -> Tensors:
    return case.weights()
