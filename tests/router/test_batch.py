from __future__ import annotations

import torch

from superlink.router.batch import RouterBatch


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
