from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Artifact, Boxes, Masks
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.noise import SeededNoise
from superlink.decoders.testing import check_decoder
from superlink.router.errors import DataError, DecoderError, InputError, LinkError, ModelError
from superlink.router.links import LinkBatch
from tests.decoders.grounding_dino.detectors import (
    CONVNEXT,
    LINK_DIM,
    RESNET,
    SWIN,
    answers,
    call_of,
    run,
    small,
)
from tests.decoders.precision import HALVES, check_half_precision


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": SWIN, "class_prior": None, "num_points": None},
        {"mask_dim": 0, "routes": small().routes[:2], "num_feature_levels": 5, "dn_number": 0},
        {"encoder_masks": False, "mask_hidden": 16, "dn_groups": 2, "merge_iou": None},
        {"square": False, "shortest": 48, "longest": 96},
    ],
    ids=["convnext", "swin", "boxes only", "narrow masks", "frames of pictures"],
)
def test_the_contract_is_kept(changes: dict[str, Any]) -> None:
    check_decoder(small(**changes))


def test_a_backbone_with_batch_norm_works_too() -> None:
    decoder = small(backbone=RESNET).build(LINK_DIM)
    (found,) = answers(decoder, [call_of(decoder.config, threshold=0.0)])
    assert isinstance(found, Boxes)
    assert len(found) > 0


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000), (20_000, 10)])
def test_extreme_pictures_get_answers_in_their_own_pixels(size: tuple[int, int]) -> None:
    decoder = small().build(LINK_DIM)
    calls = [call_of(decoder.config, token=token, size=size, threshold=0.0) for token in ("[DET]", "[SEG]")]
    boxes, masks = answers(decoder, calls)
    assert isinstance(boxes, Boxes)
    assert isinstance(masks, Masks)
    assert len(boxes) > 0
    assert boxes.xyxy[:, 2].max() <= size[1]
    assert masks.masks.shape[1:] == size


def test_more_classes_than_any_text_model_allows_are_fine() -> None:
    decoder = small().build(LINK_DIM)
    names = [f"class {index}" for index in range(300)]
    (found,) = answers(decoder, [call_of(decoder.config, names=names, threshold=0.0)])
    assert isinstance(found, Boxes)
    assert found.names == tuple(names)


def test_grounding_answers_once_for_each_phrase() -> None:
    decoder = small().build(LINK_DIM)
    call = call_of(decoder.config, token="[GRD]", names=["left one", "right one"], threshold=0.0)
    (found,) = answers(decoder, [call])
    assert isinstance(found, Boxes)
    assert sorted(found.labels.tolist()) == [0, 1]


def test_the_threshold_of_the_call_goes_before_that_of_the_configuration() -> None:
    decoder = small(class_prior=0.2, threshold=0.99).build(LINK_DIM)
    call = call_of(decoder.config)
    (none,) = answers(decoder, [call])
    (all_,) = answers(decoder, [replace(call, threshold=0.0)])
    assert isinstance(none, Boxes)
    assert isinstance(all_, Boxes)
    assert len(none) == 0
    assert len(all_) > 0


def test_an_earlier_answer_restricts_a_later_one_to_what_it_shows() -> None:
    decoder = small(merge_iou=None).build(LINK_DIM)
    call = call_of(decoder.config, threshold=0.0)
    (free,) = answers(decoder, [call])
    assert isinstance(free, Boxes)
    one = replace(free, xyxy=free.xyxy[3:4], scores=free.scores[3:4], labels=free.labels[3:4])
    (bound,) = answers(decoder, [replace(call, inputs=(one,))])
    assert isinstance(bound, Boxes)
    assert 0 < len(bound) < len(free)
    nowhere = replace(one, xyxy=np.zeros((1, 4), dtype=np.float32))
    (empty,) = answers(decoder, [replace(call, inputs=(nowhere,))])
    assert isinstance(empty, Boxes)
    assert len(empty) == 0


def boxes_for(call: Any, xyxy: list[list[float]], labels: list[int]) -> Boxes:
    return Boxes(
        xyxy=np.array(xyxy, dtype=np.float32).reshape(-1, 4),
        scores=np.ones(len(labels), dtype=np.float32),
        labels=np.array(labels, dtype=np.int64),
        names=call.names,
        size=call.image.shape[:2],
    )


def test_a_batch_of_boxes_and_masks_trains_both() -> None:
    decoder = small().build(LINK_DIM).train()
    first, second = call_of(decoder.config, seed=1), call_of(decoder.config, token="[SEG]", seed=2)
    mask = np.zeros((1, 48, 64), dtype=np.bool_)
    mask[0, 10:30, 10:30] = True
    boxes = boxes_for(first, [[4, 4, 20, 20]], [0])
    masks = Masks(
        masks=mask,
        xyxy=np.array([[10, 10, 30, 30]], dtype=np.float32),
        scores=np.ones(1, dtype=np.float32),
        labels=np.zeros(1, dtype=np.int64),
        names=second.names,
        size=(48, 64),
    )
    inputs, outputs = run(decoder, [first, second], [boxes, masks])
    terms = decoder.loss(outputs, inputs, count=2.0)
    assert decoder.count(inputs) == 2
    for name in ("loss_mask", "loss_dice", "loss_mask_enc", "loss_mask_dn"):
        assert terms[name].item() > 0


def test_the_loss_of_a_batch_is_the_sum_of_its_calls_alone() -> None:
    """What makes one worker with the whole batch equal to several with parts of it."""
    decoder = small(dn_groups=2).build(LINK_DIM).train()
    calls = [
        call_of(decoder.config, names=["a", "b"], seed=3),
        call_of(decoder.config, names=["a"], seed=4, size=(64, 40)),
    ]
    targets: list[Artifact] = [
        boxes_for(calls[0], [[4, 4, 20, 20], [30, 10, 60, 40], [8, 8, 16, 40]], [0, 1, 1]),
        boxes_for(calls[1], [[5, 5, 30, 60]], [0]),
    ]
    inputs, outputs = run(decoder, calls, targets)
    together = decoder.loss(outputs, inputs, count=4.0)
    alone = []
    for call, target in zip(calls, targets, strict=True):
        inputs, outputs = run(decoder, [call], [target])
        alone.append(decoder.loss(outputs, inputs, count=4.0))
    for name, term in together.items():
        torch.testing.assert_close(term, alone[0][name] + alone[1][name], rtol=1e-4, atol=1e-5)


def test_noise_of_a_picture_depends_on_its_seed_alone() -> None:
    owners = torch.tensor([0, 1, 1, 0, 1])
    both = SeededNoise([5, 6]).uniform(owners, 3)
    assert torch.equal(both[owners == 1], SeededNoise([6]).uniform(torch.zeros(3, dtype=torch.long), 3))


@HALVES
def test_half_precision_is_for_autocast_and_not_for_weights(dtype: torch.dtype) -> None:
    decoder = small().build(LINK_DIM).eval()
    check_half_precision(decoder, call_of(decoder.config), run, dtype)


def test_bfloat16_autocast_trains_with_finite_terms() -> None:
    decoder = small().build(LINK_DIM).train()
    call = call_of(decoder.config, token="[SEG]", seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        inputs, outputs = run(decoder, [call], [boxes_for(call, [[4, 4, 40, 40]], [0])])
    assert outputs.layers.logits.dtype == outputs.layers.boxes.dtype == torch.float32
    terms = decoder.loss(outputs, inputs, count=1.0)
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())


def test_serving_computes_no_masks_for_boxes() -> None:
    decoder = small().build(LINK_DIM).eval()
    _, outputs = run(decoder, [call_of(decoder.config)])
    assert outputs.mask_features is None


def test_the_configuration_goes_through_json() -> None:
    config = small(mask_hidden=16)
    assert GroundingDinoConfig.from_json(config.to_json()) == config
    with pytest.raises(ModelError, match="depth"):
        GroundingDinoConfig.from_json(config.to_json() | {"depth": 3})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_feature_levels": 2}, "num_feature_levels"),
        ({"norm_groups": 7}, "multiple of norm_groups"),
        ({"backbone": CONVNEXT | {"out_features": ["stage1"]}}, "out_features"),
    ],
)
def test_configurations_that_cannot_be_built_say_why(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        small(**changes)


def test_a_route_to_masks_needs_a_mask_branch() -> None:
    with pytest.raises(ModelError, match=r"mask_dim 0, but its routes \['\[SEG\]'\] return masks"):
        small(mask_dim=0, num_feature_levels=5).build(LINK_DIM)


def test_bad_calls_are_refused_by_name() -> None:
    decoder = small().build(LINK_DIM)
    call = call_of(decoder.config, names=["a"])
    with pytest.raises(InputError, match=r"grounding_dino\.0"):
        decoder.prepare([replace(call, image=None)])
    for picture in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))):
        with pytest.raises(InputError, match=r"\(9, 9.*needs \(height, width, 3\) of uint8"):
            decoder.prepare([replace(call, image=picture)])
    with pytest.raises(DataError, match="1 links, but a target is labelled 1"):
        decoder.prepare([call], [boxes_for(call, [[0, 0, 9, 9]], [1])])
    with pytest.raises(DataError, match="target for one of"):
        decoder.prepare([call], [replace(boxes_for(call, [], []), size=(9, 9))])
    with pytest.raises(LinkError, match="width 16, got 5"):
        decoder(
            LinkBatch(embeddings=torch.zeros(1, 1, 4, 5), mask=torch.ones(1, 1).bool()),
            decoder.prepare([call]),
        )
    pose = replace(call.links[0].token, text="[POSE]")
    with pytest.raises(DecoderError, match="POSE"):
        decoder.prepare([replace(call, links=(replace(call.links[0], token=pose),))])
    inputs, outputs = run(decoder, [call])
    with pytest.raises(DecoderError, match="prepare"):
        decoder.loss(outputs, inputs, count=1.0)


def test_a_backbone_learns_classes_from_its_cells_alone() -> None:
    """The loss falls on one picture, and nothing behind the cells takes part."""
    torch.manual_seed(0)
    config = small()
    decoder = config.build(LINK_DIM)
    call = call_of(config, names=("thing", "other"), size=(64, 64))
    boxes = Boxes(
        size=(64, 64),
        names=("thing", "other"),
        xyxy=np.array([[4, 4, 28, 28], [36, 36, 60, 60]], np.float32),
        labels=np.array([0, 1]),
        scores=np.ones(2, np.float32),
    )
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        inputs = decoder.prepare([call], [boxes])
        loss = decoder.cells_loss(LinkBatch.of([call.links]), inputs, count=2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    learned = {name for name, value in decoder.named_parameters() if value.grad is not None}
    assert not any(name.startswith(("model.encoder.", "model.decoder.", "bbox_embed")) for name in learned)


def test_classes_of_cells_need_targets() -> None:
    decoder = small().build(LINK_DIM)
    call = call_of(decoder.config)
    with pytest.raises(DecoderError, match="targets"):
        decoder.cells_loss(LinkBatch.of([call.links]), decoder.prepare([call]), count=1.0)
