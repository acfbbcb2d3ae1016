"""UniPose against recorded numbers of VisionLLM v2: weights, masks, outputs, losses, gradients.

With unequal class counts the recorded text enhancer mixes up the masks of a batch. This project does not
repeat that, so the tests of such a batch put the mixed masks in its place.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from superlink.decoders.grounding_dino import transformer
from superlink.decoders.grounding_dino.transformer import additive, allowed_classes
from superlink.decoders.unipose.decoder import PoseOutputs, UniPoseDecoder
from superlink.decoders.unipose.inputs import PoseInputs
from superlink.decoders.unipose.instances import Instances, legacy_blocked
from superlink.decoders.unipose.keymap import load_published, to_published
from superlink.decoders.unipose.losses import PoseTargets
from superlink.decoders.unipose.published import config_from_published
from superlink.router.errors import ModelError
from tests.parity.detectors import RecordedNoise, check_gradients
from tests.parity.fixtures import (
    Case,
    Tensors,
    assert_close,
    assert_embedding,
    assert_loss,
    parity_case,
    under,
)
from tests.parity.poses import (
    gradient_norms,
    inputs_of,
    links_of,
    recorded_decoder,
    recorded_targets,
    recorded_terms,
    rows_of,
    slot_order,
    split_keypoints,
    unpacked,
)

CASE = "d_unipose"
EQUAL = "d_unipose_equal_classes"


@pytest.fixture
def decoder(case: Case, weights: Tensors) -> UniPoseDecoder:
    return recorded_decoder(case, weights)


@pytest.fixture
def mixed_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class masks as recorded: head h of picture b has the mask of picture (b * heads + h) % pictures."""
    heads = case.config["nheads"] // 2

    def masks(class_mask: Tensor) -> Tensor:
        own = allowed_classes(class_mask)
        order = torch.arange(len(own) * heads) % len(own)
        mixed: Tensor = additive(~own[order]).unflatten(0, (len(own), heads))
        return mixed

    monkeypatch.setattr(transformer, "allowed_classes", masks)


def run(
    decoder: UniPoseDecoder,
    tensors: Tensors,
    targets: PoseTargets | None = None,
    noise: RecordedNoise | None = None,
) -> tuple[PoseInputs, PoseOutputs]:
    inputs = inputs_of(decoder, tensors, targets, noise)
    return inputs, decoder.detect(*links_of(tensors, inputs.slots), inputs)


def check_last_layer(outputs: PoseOutputs, expected: Tensors, prefix: str) -> None:
    last = outputs.poses.layers[-1]
    assert last.keypoints is not None
    assert_close(last.logits, expected[f"{prefix}pred_logits"])
    assert_embedding(last.boxes, expected[f"{prefix}pred_boxes"])
    points, scores = split_keypoints(expected[f"{prefix}pred_keypoints"])
    assert_embedding(last.keypoints, points)
    assert_embedding(torch.ones_like(scores).sigmoid(), scores)  # nothing is predicted there


def check_middle(decoder: UniPoseDecoder, outputs: PoseOutputs, tensors: Tensors, mid: Tensors) -> None:
    """Everything between the links and the last layer that was recorded."""
    poses, slots = outputs.poses, decoder.config.max_keypoints
    objects, keypoints = links_of(tensors, slots)
    classes = decoder.patch2query(objects.embeddings).mean(2)
    points = decoder.patch2keypoint(keypoints.embeddings).mean(2) * keypoints.mask[..., None]
    assert_embedding(classes[:, : mid["per_class_embedding"].shape[1]], mid["per_class_embedding"])
    assert_embedding(points, mid["kpt_embeddings"])
    assert_close(poses.classes[:, : mid["encoder_text"].shape[1]], mid["encoder_text"])
    if "encoder_vision" in mid:
        assert_close(poses.cells, mid["encoder_vision"])
    assert torch.equal(poses.proposals.index, mid["topk_encoder"])
    assert_embedding(poses.proposals.boxes, mid["interm_boxes"])
    assert torch.equal(poses.selected, mid["topk_decoder"].T)
    for layer in range(decoder.config.box_layers):
        assert_close(poses.states[layer], mid[f"hs_{layer}"])
        assert_embedding(poses.starts[layer], mid[f"reference_{layer}"])
    first = mid["hs_last_first_2_groups"].shape[1]
    assert_close(poses.states[-1][:, :first], mid["hs_last_first_2_groups"])
    assert_close(poses.states[-1][:, :: 1 + slots], mid["hs_last_boxes"])
    unfolded = poses.starts[decoder.config.box_layers]
    assert_embedding(unfolded[:, :first], mid[f"reference_{decoder.config.box_layers}_first_2_groups"])


def test_published_weights_load_strictly_and_come_back_under_every_name(
    decoder: UniPoseDecoder, weights: Tensors
) -> None:
    back = to_published(decoder)
    assert set(back) == set(weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    whole = to_published(decoder, prefix="unipose.")
    load_published(decoder, whole | {"llm.norm.weight": torch.zeros(1)}, prefix="unipose.")
    load_published(decoder, {name.replace(".gam_", ".gamma_"): one for name, one in weights.items()})


def test_weights_that_do_not_fit_are_refused_by_name(decoder: UniPoseDecoder, weights: Tensors) -> None:
    wrong = dict(weights)
    wrong["transformer.level_embed"] = torch.zeros(1, 2)
    wrong["transformer.extra"] = torch.zeros(1)
    del wrong["transformer.enc_output.bias"]
    sentence = r"missing \['transformer.enc_output.bias'\].*transformer.extra.*\(1, 2\), not"
    with pytest.raises(ModelError, match=sentence):
        load_published(decoder, wrong)


@pytest.mark.parametrize(
    ("start", "end"), [("transformer.decoder.bbox_embed.", ".layers.0.bias"), ("pose_hw_embed.", ".weight")]
)
def test_copies_of_a_shared_head_must_be_equal(
    decoder: UniPoseDecoder, weights: Tensors, start: str, end: str
) -> None:
    name = max(name for name in weights if name.startswith(start) and name.endswith(end))
    with pytest.raises(ModelError, match="copies of a shared head"):
        load_published(decoder, weights | {name: weights[name] + 1})


def test_every_weight_of_the_published_configuration_is_read(case: Case) -> None:
    config = config_from_published(case.config | {"oks_loss_coef": 3.5, "set_cost_oks": 1.5})
    assert config.weights.oks == config.build(8).weights["loss_oks"] == 3.5
    assert config.costs.oks == 1.5
    with pytest.raises(ModelError, match="two_stage_type='no'"):
        config_from_published(case.config | {"two_stage_type": "no"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aux_loss", False),
        ("random_refpoints_xy", True),
        ("fix_refpoints_hw", 0.1),
        ("decoder_layer_noise", True),
        ("dec_layer_number", [900] * 4),
        ("add_pos_value", True),
    ],
)
def test_options_that_would_be_ignored_are_refused(case: Case, name: str, value: Any) -> None:
    assert name in case.config
    with pytest.raises(ModelError, match=re.escape(f"{name}={value}")):
        config_from_published(case.config | {name: value})


@pytest.mark.parametrize("name", [CASE, EQUAL])
def test_one_picture_gives_the_recorded_logits_boxes_and_keypoints(
    decoder: UniPoseDecoder, name: str
) -> None:
    case = parity_case(name)
    with torch.no_grad():
        _, outputs = run(decoder, rows_of(case.inputs(), slice(0, 1)))
    check_last_layer(outputs, case.expected(), "eval_single_image0.")


def test_equal_class_counts_give_the_recorded_evaluation(decoder: UniPoseDecoder) -> None:
    case = parity_case(EQUAL)
    tensors, expected = case.inputs(), case.expected()
    with torch.no_grad():
        _, outputs = run(decoder, tensors)
        check_last_layer(outputs, expected, "eval.")
        check_middle(decoder, outputs, tensors, under(expected, "eval.mid."))


@pytest.mark.usefixtures("mixed_up")
def test_unequal_class_counts_give_the_recorded_evaluation_with_the_recorded_class_masks(
    case: Case, decoder: UniPoseDecoder
) -> None:
    tensors, expected = case.inputs(), case.expected()
    with torch.no_grad():
        _, outputs = run(decoder, tensors)
        check_last_layer(outputs, expected, "eval.")
        check_middle(decoder, outputs, tensors, under(expected, "eval.mid."))


def test_backbone_features_are_as_recorded(case: Case, decoder: UniPoseDecoder) -> None:
    mid = under(case.expected(), "eval.mid.")
    with torch.no_grad():
        stages = decoder.model.base.pyramid.backbone(case.inputs()["samples.tensors"]).feature_maps
    for level, stage in enumerate(stages):
        assert_close(stage, mid[f"backbone_feature_{level}"])


def used_queries(case: Case, decoder: UniPoseDecoder) -> Tensor:
    keypoints = case.inputs()["kpt_query_masks"][:, : decoder.config.max_keypoints]
    return torch.cat([torch.ones_like(keypoints[:, :1]), keypoints], 1)


def test_the_published_inference_mask_is_as_recorded_bit_for_bit(case: Case, decoder: UniPoseDecoder) -> None:
    mid = under(case.expected(), "eval.mid.")
    blocked = legacy_blocked(used_queries(case, decoder), case.meta["num_group"])[:, 0]
    total = blocked.shape[-1]
    assert torch.equal(blocked.sum(-1).int(), mid["attn_mask2_true_per_row"])
    for name, packed in mid.items():
        if name.startswith("attn_mask2_image0_"):
            rows = slice(0, len(packed)) if "_first" in name else slice(total - len(packed), total)
            assert torch.equal(blocked[0, rows], unpacked(packed, total))


def test_the_training_mask_keeps_instances_apart_as_recorded(case: Case, decoder: UniPoseDecoder) -> None:
    """Written out in full: the recorded mask is what attention by instance must be equal to."""
    expected = under(case.expected(), "train.dn.")
    decoder.train()
    tensors = case.inputs()
    targets = recorded_targets(case, tensors, decoder.config.max_keypoints)
    _, outputs = run(decoder, tensors, targets, RecordedNoise(tensors))
    used, groups = used_queries(case, decoder), case.meta["num_group"]
    masks = Instances.of(used, groups, outputs.denoising, hide_padding=False)
    assert masks.noised is not None
    noised = masks.noised.shape[-2]
    total = noised + groups * used.shape[1]
    whole = torch.ones(len(used), total, total, dtype=torch.bool)
    whole[:, :noised] = masks.noised[:, 0]
    for start in range(noised, total, used.shape[1]):
        inside = slice(start, start + used.shape[1])
        whole[:, inside, inside] = masks.apart
    assert torch.equal(whole.sum(-1).int(), expected["attn_mask2_true_per_row"])
    (packed,) = under(expected, "attn_mask2_image0_first").values()
    assert torch.equal(whole[0, : len(packed)], unpacked(packed, total))


def check_training(case: Case, decoder: UniPoseDecoder) -> dict[str, Tensor]:
    tensors, expected = case.inputs(), case.expected()
    targets = recorded_targets(case, tensors, decoder.config.max_keypoints)
    noise = RecordedNoise(tensors)
    decoder.train()
    inputs, outputs = run(decoder, tensors, targets, noise)
    assert noise.exhausted()
    check_predictions(case, outputs, expected)
    check_denoising(outputs, expected)
    check_matches(decoder, outputs, targets, expected)
    terms = decoder.loss(outputs, inputs, count=decoder.count(inputs))
    recorded = recorded_terms(expected)
    assert set(terms) == set(recorded)
    for name, value in recorded.items():
        try:
            assert_loss(terms[name], value)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    total = torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum()
    assert_loss(total, expected["train.loss"])
    total.backward()
    return terms


def check_predictions(case: Case, outputs: PoseOutputs, expected: Tensors) -> None:
    """Recorded keypoints are in the order of the data set, ours in that of the prompt."""
    layers = outputs.poses.layers
    names = {len(layers) - 1: "train."} | {at: f"train.aux.{at}." for at in range(len(layers) - 1)}
    for at, name in names.items():
        assert_close(layers[at].logits, expected[f"{name}pred_logits"])
        assert_embedding(layers[at].boxes, expected[f"{name}pred_boxes"])
        keypoints = layers[at].keypoints
        if keypoints is None:
            assert f"{name}pred_keypoints" not in expected
            continue
        points, _ = split_keypoints(expected[f"{name}pred_keypoints"])
        for row in range(len(points)):
            order = slot_order(case, row)
            assert_embedding(keypoints[row, :, : len(order)], points[row][:, order])
    assert_close(outputs.poses.proposals.logits, expected["train.interm.pred_logits"])
    assert_embedding(outputs.poses.proposals.boxes, expected["train.interm.pred_boxes"])


def check_denoising(outputs: PoseOutputs, expected: Tensors) -> None:
    denoising = outputs.denoising
    assert denoising is not None
    assert denoising.groups == int(expected["train.dn.dn_num"])
    assert 2 * denoising.slots == int(expected["train.dn.single_padding"])
    assert_embedding(denoising.content, expected["train.dn.input_query_label"])
    assert_embedding(denoising.boxes, expected["train.dn.input_query_bbox_unsigmoid"])
    queries = outputs.poses.proposals.boxes.shape[1]
    blocked = denoising.blocked(queries, hide_padding=False)[0, 0]
    assert torch.equal(blocked, expected["train.dn.self_attn_mask"])
    assert_close(outputs.poses.denoised[-1].logits, expected["train.dn.pred_logits"])
    assert_embedding(outputs.poses.denoised[-1].boxes, expected["train.dn.pred_boxes"])


def check_matches(
    decoder: UniPoseDecoder, outputs: PoseOutputs, targets: PoseTargets, expected: Tensors
) -> None:
    names = {"": "final", "_enc": "interm"}
    for stage in decoder.stages(outputs, targets, 1.0):
        if stage.suffix.startswith("_dn"):
            continue
        name = names.get(stage.suffix, f"aux{stage.suffix}")
        for row, (query, target) in enumerate(stage.pairs):
            assert torch.equal(query, expected[f"train.match.{name}.{row}.query"])
            assert torch.equal(target, expected[f"train.match.{name}.{row}.target"])


def test_equal_class_counts_give_the_recorded_losses_and_gradients(decoder: UniPoseDecoder) -> None:
    case = parity_case(EQUAL)
    check_training(case, decoder)
    check_gradients(gradient_norms(decoder), case.meta["grad_norms"])


@pytest.mark.usefixtures("mixed_up")
def test_unequal_class_counts_give_the_recorded_losses_and_gradients_with_the_recorded_class_masks(
    case: Case, decoder: UniPoseDecoder
) -> None:
    check_training(case, decoder)
    check_gradients(gradient_norms(decoder), case.meta["grad_norms"])
