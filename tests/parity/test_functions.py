"""Single functions of the detector against recorded numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoSinePositionEmbedding,
    encode_sinusoidal_position_embedding,
)

from superlink.decoders.grounding_dino.boxes import giou, inverse_sigmoid, to_xyxy
from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.deformable import deformable_sampling
from superlink.decoders.grounding_dino.losses import focal
from superlink.decoders.grounding_dino.points import mask_terms, sample, sample_rows
from superlink.decoders.grounding_dino.pyramid import Pyramid, valid_ratio
from superlink.decoders.grounding_dino.transformer import allowed_classes, class_positions
from superlink.decoders.unipose.losses import COCO_SIGMAS, OTHER_SIGMA, Labels, oks
from superlink.decoders.unipose.model import EPS
from tests.parity.fixtures import Case, Tensors, assert_close, assert_embedding, assert_loss

CASE = "h_functions"


@pytest.fixture(scope="module")
def given(case: Case) -> Tensors:
    return case.inputs()


@pytest.fixture(scope="module")
def recorded(case: Case) -> Tensors:
    return case.expected()


def shapes_of(given: Tensors) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in given["msda.spatial_shapes"]]


def test_deformable_sampling(given: Tensors, recorded: Tensors) -> None:
    found = deformable_sampling(
        given["msda.value"],
        shapes_of(given),
        given["msda.sampling_locations"],
        given["msda.attention_weights"],
    )
    assert_close(found, recorded["msda.out"])


def named(recorded: Tensors, start: str) -> tuple[str, Tensor]:
    """The one recorded entry whose name starts so; its sizes are part of the name."""
    (name,) = [name for name in recorded if name.startswith(start)]
    return name, recorded[name]


def test_sine_encoding_of_picture_positions(given: Tensors, recorded: Tensors) -> None:
    name, expected = named(recorded, "sine2d.gdino")
    temperature = int(name.rpartition("temp")[2])
    found = picture_positions(~given["sine2d.padding_mask"], expected.shape[1], temperature)
    assert_embedding(found, expected)


def picture_positions(valid: Tensor, width: int, temperature: int) -> Tensor:
    """(B, width, h, w)."""
    # Groups of one: a recorded width need not be a multiple of the usual 32, and nothing is normed here.
    config = GroundingDinoConfig(d_model=width, temperature=temperature, norm_groups=1)
    found: Tensor = GroundingDinoSinePositionEmbedding(config.layer_config())(valid.float(), valid)
    return found


@pytest.mark.parametrize("width", [40, 48])
def test_a_set_of_any_width_can_be_compared(width: int) -> None:
    """Lines first, then columns; sines and cosines of the share of the valid side, in turn."""
    valid = torch.zeros(1, 5, 6, dtype=torch.bool)
    valid[:, :4, :3] = True
    found = picture_positions(valid, width, 20)[0, :, :4, :3].double()
    half = width // 2
    for side, start, places in ((4, 0, found[:, :, 0]), (3, half, found[:, 0])):
        for at in range(side):
            for channel in range(half):
                angle = 2 * math.pi * (at + 1) / side / 20 ** (2 * (channel // 2) / half)
                wave = (math.cos if channel % 2 else math.sin)(angle)
                assert float(places[start + channel, at]) == pytest.approx(wave, abs=1e-5)


def test_sine_encoding_of_reference_boxes(given: Tensors, recorded: Tensors) -> None:
    _, expected = named(recorded, "sine_ref.gdino")
    boxes = given["sine_ref.boxes"].transpose(0, 1)
    width = expected.shape[-1] // boxes.shape[-1]
    assert_embedding(encode_sinusoidal_position_embedding(boxes, num_pos_feats=width), expected)


def test_sine_encoding_of_class_positions(given: Tensors, recorded: Tensors) -> None:
    _, expected = named(recorded, "sine_text.gdino")
    places = given["sine_text.position_ids"][..., None].float()
    assert_embedding(encode_sinusoidal_position_embedding(places, num_pos_feats=expected.shape[-1]), expected)


def test_class_masks_and_positions(given: Tensors, recorded: Tensors) -> None:
    mask = given["text_mask"]
    assert torch.equal(class_positions(mask), recorded["text_position_ids"])
    assert torch.equal(allowed_classes(mask), recorded["text_self_attention_mask_valid1"])


def test_inverse_sigmoid_at_its_edges(given: Tensors, recorded: Tensors) -> None:
    assert_embedding(inverse_sigmoid(given["inverse_sigmoid.in"]), recorded["inverse_sigmoid.gdino"])
    assert_embedding(inverse_sigmoid(given["inverse_sigmoid.in"], EPS), recorded["inverse_sigmoid.unipose"])


def test_generalised_iou(given: Tensors, recorded: Tensors) -> None:
    boxes, others = to_xyxy(given["giou.b1_cxcywh"]), to_xyxy(given["giou.b2_cxcywh"])
    assert_embedding(giou(boxes[:, None], others[None]), recorded["giou.gdino"])


def test_proposals(given: Tensors, recorded: Tensors) -> None:
    shapes, memory, padding = shapes_of(given), given["proposals.memory"], given["proposals.padding_mask"]
    levels = padding.split([height * width for height, width in shapes], 1)
    ratios = [valid_ratio(~level.unflatten(1, shape)) for level, shape in zip(levels, shapes, strict=True)]
    pyramid = Pyramid(
        cells=memory,
        positions=memory,
        valid=~padding,
        padded=True,
        ratios=torch.stack(ratios, 1),
        shapes=tuple(shapes),
        mask_stage=None,
    )
    start, usable = pyramid.proposals()
    assert_embedding(start, recorded["proposals.unsigmoid"])
    assert_embedding(memory.masked_fill(~usable[..., None], 0.0), recorded["proposals.memory_out"])


def test_focal_loss(given: Tensors, recorded: Tensors) -> None:
    logits, positive, known = given["focal.logits"], given["focal.targets"], given["focal.text_mask"]
    mask = torch.zeros(logits.shape[0], 1, logits.shape[2], dtype=torch.bool)
    mask[:, 0, : known.shape[1]] = known
    assert_loss(focal(logits, positive, mask, alpha=0.25), recorded["focal.sum"])


def test_mask_terms(given: Tensors, recorded: Tensors) -> None:
    entropy, dice = mask_terms(given["mask.point_logits"], given["mask.point_labels"])
    for term, start in ((entropy, "mask.bce_over_"), (dice, "mask.dice_over_")):
        name, expected = named(recorded, start)
        assert_loss(term.sum() / float(name.removeprefix(start)), expected)


def test_point_sampling(given: Tensors, recorded: Tensors) -> None:
    maps, points = given["point_sample.input"][:, 0], given["point_sample.coords"]
    assert_embedding(sample(maps, points), recorded["point_sample.out"][:, 0])
    assert_embedding(sample_rows(maps, torch.arange(len(maps)), points), recorded["point_sample.out"][:, 0])


def test_object_keypoint_similarity(given: Tensors, recorded: Tensors) -> None:
    sigmas = recorded["oks.sigmas"]
    ours = [*COCO_SIGMAS.values(), *[OTHER_SIGMA] * (len(sigmas) - len(COCO_SIGMAS))]
    assert_embedding(torch.tensor(ours[: len(sigmas)]), sigmas)
    labels = Labels(
        points=given["oks.target"].unflatten(-1, (-1, 2)),
        visible=given["oks.visible"],
        areas=given["oks.area"],
        sigmas=sigmas.expand(len(given["oks.area"]), -1),
    )
    found = oks(given["oks.pred"].unflatten(-1, (-1, 2)), labels)
    assert_embedding(found, recorded["oks.per_instance"])
    assert_embedding(1 - found.clamp(min=1e-6), recorded["oks.loss_mean"])
