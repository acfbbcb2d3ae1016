"""Rows of a batch and their padding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.errors import InputError
from superlink.router.model import Router
from tests.router.batches import batch_of, example_rows


def test_padding_adds_positions_that_count_for_nothing() -> None:
    batch = RouterBatch(
        input_ids=torch.tensor([[5, 6, 7], [8, 0, 0]]),
        attention_mask=torch.tensor([[True, True, True], [True, False, False]]),
        labels=torch.tensor([[-100, 6, 7], [8, -100, -100]]),
    )
    padded = batch.padded(4, pad=0)
    assert padded.input_ids.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert padded.attention_mask[:, 3].tolist() == [False, False]
    assert padded.labels is not None
    assert padded.labels[:, 3].tolist() == [-100, -100]
    assert padded.padded(4, pad=0).input_ids.shape == (2, 4)


def test_a_mask_of_numbers_means_what_one_of_truths_means(router: Router, config: RouterConfig) -> None:
    batch = batch_of(config, example_rows(config))
    for numbers in (batch.attention_mask.long(), batch.attention_mask.float()):
        of_numbers = replace(batch, attention_mask=numbers)
        assert of_numbers.attention_mask.dtype == torch.bool
        with torch.no_grad():
            found, expected = router(of_numbers), router(batch)
        torch.testing.assert_close(found.hidden, expected.hidden, rtol=0, atol=0)
        torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=0)


@pytest.mark.parametrize("mask", [[[True] * 3, [False, True, True]], [[1, 1, 1], [1, 0, 1]]])
def test_rows_that_are_padded_elsewhere_than_on_the_right_are_refused(mask: list[list[int]]) -> None:
    with pytest.raises(InputError, match="row 1 has padding before a real position; pad rows on the right"):
        RouterBatch(input_ids=torch.tensor([[5, 6, 7], [0, 8, 9]]), attention_mask=torch.tensor(mask))


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (6,)])
def test_a_mask_of_another_shape_than_its_ids_is_refused_with_both(shape: tuple[int, ...]) -> None:
    ids = torch.tensor([[5, 6, 7], [8, 9, 9]])
    with pytest.raises(InputError, match=r"got \(2, 3\) and \(" + str(shape[0])):
        RouterBatch(input_ids=ids, attention_mask=torch.ones(shape, dtype=torch.bool))
