from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from superlink.agents.worker import answer
from superlink.decoders.artifacts import Artifact, Keypoints
from superlink.decoders.contract import Failure, Route
from superlink.decoders.testing import check_answers, check_decoder, make_kit
from superlink.decoders.unipose import UniPoseConfig, UniPoseDecoder
from superlink.decoders.unipose.decoder import PoseOutputs
from superlink.decoders.unipose.inputs import PoseInputs
from superlink.router.errors import DataError, DecoderError, InputError, LinkError, ModelError
from superlink.router.links import LinkBatch
from tests.decoders.grounding_dino.detectors import LINK_DIM, SWIN
from tests.decoders.precision import HALVES, check_half_precision
from tests.decoders.unipose.poses import answers, call_of, keypoints_for, run, small, tiny


@pytest.mark.parametrize(
    "config",
    [
        small(),
        small(
            detector={
                "backbone": SWIN | {"out_features": ["stage2", "stage3", "stage4"]},
                "class_prior": None,
                "dn_number": 0,
            },
            max_keypoints=3,
        ),
        small(detector={"dn_groups": 2, "merge_iou": None, "decoder_layers": 4}, box_layers=2),
        small(legacy_group_mask=True),
        small(detector={"square": False, "shortest": 48, "longest": 96}),
    ],
    ids=["from scratch", "as published, no denoising", "two box layers", "legacy mask", "frames of pictures"],
)
def test_the_contract_is_kept(config: UniPoseConfig) -> None:
    check_decoder(config)


def test_the_contract_is_kept_at_the_size_of_the_embedded_model() -> None:
    check_decoder(tiny())


class Outside(UniPoseDecoder):
    """Keypoints lie beyond the edge."""

    def postprocess(self, outputs: PoseOutputs, inputs: PoseInputs) -> list[Artifact]:
        found = super().postprocess(outputs, inputs)
        return [
            replace(one, xyv=one.xyv + np.float32(500)) if isinstance(one, Keypoints) else one
            for one in found
        ]


class Misnamed(UniPoseDecoder):
    """Keypoints have the names of another call."""

    def postprocess(self, outputs: PoseOutputs, inputs: PoseInputs) -> list[Artifact]:
        found = super().postprocess(outputs, inputs)
        return [
            replace(one, keypoint_names=(*one.keypoint_names, "tail")) if isinstance(one, Keypoints) else one
            for one in found
        ]


@pytest.mark.parametrize(
    ("kind", "sentence"), [(Outside, "keypoint lies outside"), (Misnamed, "the links say")]
)
def test_the_conformance_kit_finds_wrong_keypoints(kind: type[UniPoseDecoder], sentence: str) -> None:
    config = small()
    kit = replace(make_kit(config), decoder=kind(config, 32))
    with pytest.raises(AssertionError, match=sentence):
        check_answers(kit)


def test_a_call_names_its_classes_and_its_keypoints_apart() -> None:
    call = call_of(small(), names=["dog", "cat"], parts=["nose", "tail"])
    assert call.token.text == "[POSE]"
    assert call.names == ("dog", "cat")
    assert call.parts == ("nose", "tail")


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000), (20_000, 10)])
def test_extreme_pictures_get_answers_in_their_own_pixels(size: tuple[int, int]) -> None:
    decoder = small().build(LINK_DIM)
    (found,) = answers(decoder, [call_of(decoder.config, size=size, threshold=0.0)])
    assert len(found) > 0
    assert found.size == size
    assert found.xyv[..., 0].max() <= size[1]
    assert found.xyv[..., 1].max() <= size[0]


def test_any_classes_and_as_many_keypoints_as_there_is_room_for_are_answered_by_name() -> None:
    decoder = small(max_keypoints=68).build(LINK_DIM)
    names = [f"animal {index}" for index in range(70)]
    parts = [f"part {index}" for index in range(68)]
    (found,) = answers(decoder, [call_of(decoder.config, names=names, parts=parts, threshold=0.0)])
    assert found.names == tuple(names)
    assert found.keypoint_names == tuple(parts)
    assert found.xyv.shape[1:] == (68, 3)


def test_keypoints_scale_with_the_picture_alone() -> None:
    """A picture of twice the size has the same pixels in the decoder's frame, and twice the coordinates."""
    decoder = small(detector={"merge_iou": None}).build(LINK_DIM)
    picture = np.full((32, 32, 3), 90, dtype=np.uint8)
    call = call_of(decoder.config, threshold=0.0)
    (one,) = answers(decoder, [replace(call, image=picture)])
    (two,) = answers(decoder, [replace(call, image=np.full((64, 64, 3), 90, dtype=np.uint8))])
    np.testing.assert_allclose(2 * one.xyv[..., :2], two.xyv[..., :2], atol=1e-3)
    np.testing.assert_allclose(2 * one.xyxy, two.xyxy, atol=1e-3)


def test_an_earlier_answer_restricts_a_later_one_to_what_it_shows() -> None:
    decoder = small(detector={"merge_iou": None}).build(LINK_DIM)
    call = call_of(decoder.config, threshold=0.0)
    (free,) = answers(decoder, [call])
    (bound,) = answers(decoder, [replace(call, inputs=(free.select([0]),))])
    assert 0 < len(bound) <= len(free)
    nowhere = replace(free.select([0]), xyxy=np.zeros((1, 4), dtype=np.float32))
    (empty,) = answers(decoder, [replace(call, inputs=(nowhere,))])
    assert len(empty) == 0


def test_unused_keypoint_slots_change_nothing_for_those_that_are_used() -> None:
    config = small()
    decoder = config.build(LINK_DIM)
    every = small(detector={"dn_hide_padding": False}).build(LINK_DIM)
    every.load_state_dict(decoder.state_dict())
    calls = [call_of(config, threshold=0.0), call_of(config, parts=["tail"], threshold=0.0)]
    assert run(every, calls)[0].slots == config.max_keypoints
    assert run(decoder, calls)[0].slots == 2
    for one, two in zip(answers(decoder, calls), answers(every, calls), strict=True):
        np.testing.assert_allclose(one.xyv, two.xyv, atol=1e-3)
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)


def test_the_legacy_mask_changes_inference_and_not_training() -> None:
    torch.manual_seed(0)
    config = small(detector={"dn_hide_padding": False})
    exact, legacy = config.build(LINK_DIM), replace(config, legacy_group_mask=True).build(LINK_DIM)
    legacy.load_state_dict(exact.state_dict())
    call = call_of(config, threshold=0.0, seed=3)
    target = keypoints_for(call, [[4, 4, 30, 40]], [0])
    inputs, outputs = run(exact.train(), [call], [target])
    same_inputs, same = run(legacy.train(), [call], [target])
    for name, term in exact.loss(outputs, inputs, count=1.0).items():
        torch.testing.assert_close(term, legacy.loss(same, same_inputs, count=1.0)[name])
    with torch.no_grad():
        one = run(exact.eval(), [call])[1].poses.states[-1]
        two = run(legacy.eval(), [call])[1].poses.states[-1]
    assert (one - two).abs().max() > 1e-3


def test_the_loss_of_a_batch_is_the_sum_of_its_calls_alone() -> None:
    """What makes one worker with the whole batch equal to several with parts of it."""
    decoder = small(detector={"dn_groups": 2}).build(LINK_DIM).train()
    calls = [
        call_of(decoder.config, names=["dog", "cat"], parts=["nose", "tail", "left eye"], seed=3),
        call_of(decoder.config, names=["person"], parts=["nose"], seed=4, size=(64, 40)),
    ]
    targets = [
        keypoints_for(calls[0], [[4, 4, 20, 20], [30, 10, 60, 40], [8, 8, 16, 40]], [0, 1, 1]),
        keypoints_for(calls[1], [[5, 5, 30, 60]], [0]),
    ]
    inputs, outputs = run(decoder, calls, targets)
    assert decoder.count(inputs) == 4
    together = decoder.loss(outputs, inputs, count=4.0)
    alone = []
    for call, target in zip(calls, targets, strict=True):
        inputs, outputs = run(decoder, [call], [target])
        alone.append(decoder.loss(outputs, inputs, count=4.0))
    for name, term in together.items():
        torch.testing.assert_close(term, alone[0][name] + alone[1][name], rtol=1e-4, atol=1e-5)


def test_keypoints_that_are_not_labelled_teach_nothing() -> None:
    decoder = small(detector={"dn_number": 0}).build(LINK_DIM).train()
    call = call_of(decoder.config, seed=1)
    somewhere = keypoints_for(call, [[4, 4, 40, 40]], [0], [[20, 20, 2], [9, 9, 0]])
    elsewhere = keypoints_for(call, [[4, 4, 40, 40]], [0], [[20, 20, 2], [40, 30, 0]])
    terms = []
    for target in (somewhere, elsewhere):
        inputs, outputs = run(decoder, [call], [target])
        terms.append(decoder.loss(outputs, inputs, count=1.0))
    for name, term in terms[0].items():
        torch.testing.assert_close(term, terms[1][name])
    assert terms[0]["loss_keypoints"].item() > 0


def test_boxes_and_keypoints_of_a_picture_are_learned() -> None:
    torch.manual_seed(0)
    config = small(detector={"dn_number": 2})
    decoder = config.build(LINK_DIM).train()
    call = call_of(config, parts=["head", "foot"], size=(64, 64), seed=1, threshold=0.0)
    target = keypoints_for(
        call, [[4, 4, 28, 40], [36, 10, 60, 60]], [0, 0], [[16, 8, 2], [16, 36, 2], [48, 14, 2], [48, 56, 2]]
    )
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=2e-3)
    for _ in range(120):
        inputs, outputs = run(decoder, [call], [target])
        terms = decoder.loss(outputs, inputs, count=2.0)
        loss = torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
    (found,) = answers(decoder, [call])
    best = found.select([0, 1])
    order = np.argsort(best.xyxy[:, 0])
    np.testing.assert_allclose(best.xyxy[order], target.xyxy, atol=6)
    np.testing.assert_allclose(best.xyv[order], target.xyv, atol=6)


@HALVES
def test_half_precision_is_for_autocast_and_not_for_weights(dtype: torch.dtype) -> None:
    decoder = small().build(LINK_DIM).eval()
    check_half_precision(decoder, call_of(decoder.config), run, dtype)


def test_bfloat16_autocast_trains_with_finite_terms() -> None:
    decoder = small().build(LINK_DIM).train()
    call = call_of(decoder.config, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        inputs, outputs = run(decoder, [call], [keypoints_for(call, [[4, 4, 40, 40]], [0])])
    last = outputs.poses.layers[-1]
    assert last.keypoints is not None
    assert last.logits.dtype == last.boxes.dtype == last.keypoints.dtype == torch.float32
    terms = decoder.loss(outputs, inputs, count=1.0)
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())


def test_objects_of_no_size_have_finite_losses_and_gradients() -> None:
    decoder = small().build(LINK_DIM).train()
    call = call_of(decoder.config, seed=1)
    inputs, outputs = run(decoder, [call], [keypoints_for(call, [[4, 4, 4, 4]], [0])])
    terms = decoder.loss(outputs, inputs, count=1.0)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    grads = [one.grad for one in decoder.parameters() if one.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_a_backbone_learns_classes_from_its_cells_alone() -> None:
    decoder = small().build(LINK_DIM)
    call = call_of(decoder.config, names=["dog", "cat"])
    links = LinkBatch.of([call.links])
    inputs = decoder.prepare([call], [keypoints_for(call, [[4, 4, 28, 28]], [1])])
    decoder.cells_loss(links, inputs, count=1.0).backward()
    learned = {name for name, value in decoder.named_parameters() if value.grad is not None}
    assert any(name.startswith("model.base.pyramid.backbone") for name in learned)
    assert not any(name.startswith(("model.base.encoder.", "model.base.decoder.")) for name in learned)
    with pytest.raises(DecoderError, match="targets"):
        decoder.cells_loss(links, decoder.prepare([call]), count=1.0)


def test_the_configuration_goes_through_json() -> None:
    config = small(keypoint_names=("nose", "tail"))
    assert UniPoseConfig.from_json(config.to_json()) == config
    with pytest.raises(ModelError, match="depth"):
        UniPoseConfig.from_json(config.to_json() | {"depth": 3})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"box_layers": 3}, "box_layers is 3"),
        ({"num_instances": 0}, "num_instances is 0"),
        ({"max_keypoints": 0}, "max_keypoints is 0"),
        ({"detector": {"mask_dim": 8, "num_feature_levels": 4}}, "mask_dim 8"),
        ({"routes": (Route(token=small().routes[0].token, returns=small().routes[0].returns),)}, "objects"),
    ],
)
def test_configurations_that_cannot_be_built_say_why(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        small(**changes)


def test_calls_that_cannot_be_answered_are_refused_by_name() -> None:
    decoder = small(keypoint_names=("nose", "left eye", *(f"part {index}" for index in range(30)))).build(
        LINK_DIM
    )
    call = call_of(decoder.config)
    with pytest.raises(InputError, match=r"unipose\.0' has no picture"):
        decoder.prepare([call, replace(call, image=None)])
    with pytest.raises(InputError, match="does not know: antenna; it knows nose, left eye"):
        decoder.prepare([call_of(decoder.config, parts=["nose", "antenna"])])
    with pytest.raises(InputError, match="asks for 21 keypoints; unipose finds at most 20"):
        decoder.prepare([call_of(decoder.config, parts=[f"part {index}" for index in range(21)])])
    with pytest.raises(InputError, match=r"links of \[POSE\] alone"):
        decoder.prepare([call_of(decoder.config, names=[])])
    mixed = (*call.links[:2], call.links[0], call.links[2])
    with pytest.raises(InputError, match=r"needs all of \[DET\] first"):
        decoder.prepare([replace(call, links=mixed)])
    with pytest.raises(DecoderError, match=r"answers \[POSE\], not \[DET\]"):
        decoder.prepare([call_of(decoder.config, parts=[])])
    narrow = LinkBatch(embeddings=torch.zeros(1, 3, 4, 5), mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(LinkError, match="width 16, got 5"):
        decoder(narrow, decoder.prepare([call]))
    inputs, outputs = run(decoder, [call])
    with pytest.raises(DecoderError, match="prepare"):
        decoder.loss(outputs, inputs, count=1.0)


def test_labels_that_do_not_fit_their_call_are_refused_by_name() -> None:
    decoder = small().build(LINK_DIM)
    call = call_of(decoder.config)
    target = keypoints_for(call, [[0, 0, 9, 9]], [0])
    with pytest.raises(DataError, match="1 objects, but a target is labelled 1"):
        decoder.prepare([call], [keypoints_for(call, [[0, 0, 9, 9]], [1])])
    with pytest.raises(DataError, match=r"asks for the keypoints \['nose', 'left eye'\], its target has"):
        decoder.prepare([call], [replace(target, keypoint_names=("left eye", "nose"))])
    with pytest.raises(DataError, match="target for one of"):
        decoder.prepare([call], [replace(target, size=(9, 9))])
    with pytest.raises(DataError, match="1 calls but 2 targets"):
        decoder.prepare([call], [target, target])


@pytest.mark.parametrize("layer", ["class_embed", "pose_embed"])
def test_damaged_scores_or_keypoints_are_a_failure_of_their_call(layer: str) -> None:
    decoder = small().build(LINK_DIM).eval()
    call = call_of(decoder.config, threshold=0.0)
    getattr(decoder.model, layer).register_forward_hook(lambda _, __, found: found * torch.nan)
    (found,) = answer(decoder, [call])
    assert isinstance(found, Failure)
    assert "not finite" in found.error


def test_keypoints_that_are_not_labelled_may_have_any_coordinates() -> None:
    decoder = small().build(LINK_DIM).train()
    call = call_of(decoder.config, seed=1)
    there = [12.0, 12.0, 2.0]
    losses = []
    for nowhere in ([0.0, 0.0, 0.0], [np.nan, np.inf, 0.0]):
        target = keypoints_for(call, [[4, 4, 40, 40]], [0], [[there, nowhere]])
        inputs, outputs = run(decoder, [call], [target])
        losses.append(decoder.loss(outputs, inputs, count=1.0))
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value)
