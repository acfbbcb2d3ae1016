"""Batches of unequal frames, damaged answers, and what serving does with very many items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from superlink.agents.worker import answer
from superlink.decoders.artifacts import Boxes
from superlink.decoders.contract import Call, Failure, Result
from superlink.decoders.grounding_dino.results import keep_top, merge_doubles
from superlink.decoders.testing import assert_same, make_kit
from tests.decoders.grounding_dino.detectors import LINK_DIM, answers, call_of, run, small

FREE = {"square": False, "shortest": 48, "longest": 96}


def frames_seen(calls: list[Call], **changes: object) -> list[tuple[int, ...]]:
    """Shapes that the backbone was given while calls were served."""
    decoder = small(**changes).build(LINK_DIM)
    seen: list[tuple[int, ...]] = []
    decoder.model.pyramid.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    answers(decoder, calls)
    return seen


def test_calls_of_one_frame_share_a_pass_and_the_others_have_their_own() -> None:
    sizes = [(48, 96), (64, 64), (40, 80)]
    calls = [call_of(small(), size=size, id=f"call {row}") for row, size in enumerate(sizes)]
    assert frames_seen(calls, **FREE) == [(2, 3, 64, 96), (1, 3, 64, 64)]
    assert frames_seen(calls) == [(3, 3, 64, 64)]


def test_answers_of_unequal_frames_come_back_in_the_order_of_the_calls() -> None:
    kit = make_kit(small(**FREE), link_dim=LINK_DIM)
    for call, found in zip(kit.calls, kit.run(kit.calls), strict=True):
        assert found.origin.source == call.image_id
        assert_same(found, kit.run([call])[0], call.id)


def test_training_keeps_a_batch_in_one_frame() -> None:
    decoder = small(**FREE).build(LINK_DIM).train()
    calls = [call_of(decoder.config, size=size, seed=1) for size in ((48, 96), (64, 64))]
    targets = [
        Boxes(
            xyxy=np.array([[4, 4, 30, 30]], np.float32),
            scores=np.ones(1, np.float32),
            labels=np.zeros(1, np.int64),
            names=("thing",),
            size=size,
        )
        for size in ((48, 96), (64, 64))
    ]
    inputs, outputs = run(decoder, calls, targets)
    assert inputs.pixels.shape[2:] == (64, 96)
    assert outputs.layers.boxes.shape[1] == 2
    assert not outputs.more


@pytest.mark.parametrize("token", ["[DET]", "[SEG]"])
@pytest.mark.parametrize("square", [True, False])
def test_a_call_with_damaged_scores_fails_and_its_neighbour_does_not(token: str, square: bool) -> None:
    decoder = small(square=square).build(LINK_DIM).eval()
    good, other = (call_of(decoder.config, token=token, id=name) for name in ("good", "other"))
    decoder.patch2query.register_forward_hook(
        # Links are finite when they come; what a broken weight makes of one need not be.
        lambda _, given, found: found.masked_fill(
            (given[0] == other.links[0].embeddings * 2).all(-1, keepdim=True), torch.nan
        )
    )
    twice = replace(other.links[0], embeddings=other.links[0].embeddings * 2)
    found = answer(decoder, [good, replace(other, links=(twice,))])
    assert isinstance(found[0], Result)
    assert isinstance(found[1], Failure)
    assert found[1].kind == "decoder"
    assert "not finite" in found[1].error


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 0.95), st.sampled_from([None, 1, 2]), st.integers(1, 15))
def test_merging_may_stop_where_enough_is_kept(seed: int, most: float, top: int | None, count: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 15, (40, 2))], 1).astype(np.float32)
    labels = rng.integers(0, 4, 40)
    whole = merge_doubles(boxes, labels, most)
    if top is not None:
        whole = whole[keep_top(labels[whole], top)]
    found = merge_doubles(boxes, labels, most, top=top, count=count)
    np.testing.assert_array_equal(found, whole[:count])


def test_a_threshold_of_nothing_serves_the_best_of_all_pairs() -> None:
    """900 queries and 80 classes, far apart: the answer is the hundred best scores."""
    decoder = small(merge_iou=0.7).build(LINK_DIM)
    names = [f"class {index}" for index in range(80)]
    call = call_of(decoder.config, names=names, threshold=0.0)
    inputs, outputs = run(decoder.eval(), [call])
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(900, 80, generator=rng)
    places = torch.stack(torch.meshgrid(torch.arange(30), torch.arange(30), indexing="ij"), -1).flatten(0, 1)
    boxes = torch.cat([(places + 0.5) / 30, torch.full((900, 2), 1 / 30)], -1)
    layers = replace(
        outputs.layers, logits=logits[None, None], boxes=boxes[None, None], states=torch.zeros(1, 1, 900, 32)
    )
    (found,) = decoder.postprocess(replace(outputs, layers=layers), inputs)
    assert isinstance(found, Boxes)
    best: Tensor = logits.flatten().sigmoid().topk(100).values
    np.testing.assert_allclose(found.scores, best.numpy(), rtol=1e-6)
