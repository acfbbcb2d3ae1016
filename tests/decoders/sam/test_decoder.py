from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from superlink.decoders.artifacts import Artifact, Boxes, Masks
from superlink.decoders.contract import Call
from superlink.decoders.sam import PromptMix, SamConfig, SamDecoder, clicks
from superlink.decoders.sam.config import mask_routes, small_sam
from superlink.decoders.sam.decoder import SamOutputs
from superlink.decoders.testing import check_decoder
from superlink.router.errors import DataError, DecoderError, InputError, LinkError, ModelError
from superlink.router.links import LinkBatch
from tests.decoders.precision import HALVES, check_half_precision
from tests.decoders.sam.segmenters import (
    LINK_DIM,
    answers,
    boxes_of,
    built,
    call_of,
    masks_of,
    rectangle,
    run,
    small,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"multimask": True, "prompts": PromptMix(link=0)},
        {"routes": mask_routes(1, after=None), "prompts": PromptMix(box=0, points=0, mask=0)},
        {"prompts": PromptMix(link=0, box=0, points=0), "focal_gamma": 0.0, "focal_alpha": None},
        {"routes": (replace(mask_routes()[0], top=1),), "prompts_at_once": 1, "pictures_at_once": 1},
    ],
    ids=["all prompts", "three masks", "links alone", "rough masks", "one mask a link"],
)
def test_the_contract_is_kept(changes: dict[str, Any]) -> None:
    check_decoder(small(**changes))


def counted(decoder: SamDecoder) -> list[int]:
    """How many pictures every pass through the image encoder had, as they happen."""
    passes: list[int] = []
    decoder.model.vision_encoder.register_forward_hook(
        lambda _, __, output: passes.append(len(output.last_hidden_state))
    )
    return passes


def test_five_clicks_on_one_picture_encode_it_once() -> None:
    decoder = built()
    passes = counted(decoder)
    points = [(5.0, 5.0), (20.0, 9.0), (40.0, 30.0), (60.0, 2.0), (31.0, 47.0)]
    call = call_of(decoder.config, image_id="hash", threshold=0.0)
    fresh = []
    for count in range(1, 6):
        clicked = clicks(points[:count], size=(48, 64))
        (found,) = answers(decoder, [replace(call, inputs=(clicked,))])
        fresh.append((found, answers(built(), [replace(call, image_id="", inputs=(clicked,))])[0]))
    assert passes == [1]
    for kept, alone in fresh:
        assert np.array_equal(kept.masks, alone.masks)
        np.testing.assert_allclose(kept.scores, alone.scores, atol=1e-6)


def test_a_batch_encodes_each_picture_once_and_many_pictures_a_few_at_a_time() -> None:
    decoder = built(small(pictures_at_once=2))
    passes = counted(decoder)
    config = decoder.config
    same = [call_of(config, id=f"sam.{row}", image_id="same") for row in range(3)]
    others = [
        call_of(config, id=f"sam.{row + 3}", image_id=f"other {row}", size=(20, 20)) for row in range(3)
    ]
    answers(decoder, [*same, *others])
    assert passes == [2, 2]


def test_features_are_kept_of_as_many_pictures_as_the_configuration_says() -> None:
    decoder = built(small(cached_pictures=2))
    passes = counted(decoder)
    calls = [call_of(decoder.config, image_id=name) for name in ("a", "b", "a", "c", "a", "b")]
    for call in calls:
        answers(decoder, [call])
    assert len(passes) == 4  # a, b, c, and b again: it was not asked for the longest when c came
    unnamed = replace(calls[0], image_id="")
    answers(decoder, [unnamed])
    answers(decoder, [unnamed])
    assert len(passes) == 6


def test_features_are_forgotten_when_weights_change() -> None:
    decoder = built()
    passes = counted(decoder)
    call = call_of(decoder.config, image_id="hash")
    answers(decoder, [call])
    decoder.load_state_dict(built(seed=1).state_dict())
    answers(decoder, [call])
    with torch.no_grad():
        decoder.model.vision_encoder.pos_embed.add_(1.0)
    answers(decoder, [call])
    assert len(passes) == 3
    decoder.train()
    run(decoder, [call])
    decoder.eval()
    run(decoder, [call])  # with gradients
    assert len(passes) == 5


def test_each_box_of_the_decoder_before_gives_one_mask_with_its_label() -> None:
    decoder = built()
    names = ("star", "circle")
    found_boxes = boxes_of(
        [[4, 4, 30, 30], [10, 20, 60, 44], [0, 0, 64, 48]], labels=[1, 0, 1], names=names, score=0.5
    )
    (found,) = answers(decoder, [call_of(decoder.config, names=names, inputs=(found_boxes,))])
    assert len(found) == 3
    assert sorted(found.labels.tolist()) == [0, 1, 1]
    assert found.scores.max() <= 0.5
    none = boxes_of([], names=names)
    (empty,) = answers(decoder, [call_of(decoder.config, names=names, inputs=(none,))])
    assert len(empty) == 0
    assert empty.masks.shape == (0, 48, 64)


def test_calls_with_all_kinds_of_prompts_in_one_batch_get_what_they_get_alone() -> None:
    decoder = built(small(prompts_at_once=2))
    boxes, clicked = boxes_of([[4, 4, 30, 30]]), clicks([(10, 10)], [(60, 40)], size=(48, 64))
    painted = masks_of([rectangle((48, 64), 4, 4, 20, 20)])
    three = boxes_of([[4, 4, 30, 30], [0, 0, 64, 48], [20, 20, 60, 40]])
    given: list[tuple[Artifact, ...]] = [
        (),
        (boxes,),
        (clicked,),
        (painted,),
        (clicked, painted),
        (three,),
        (boxes, clicked),
        (boxes, painted, clicked),
    ]
    calls = [
        call_of(decoder.config, id=f"sam.{row}", inputs=inputs, threshold=0.0)
        for row, inputs in enumerate(given)
    ]
    together = answers(decoder, calls)
    assert [len(one) for one in together] == [1, 1, 1, 1, 1, 3, 1, 2]
    for call, batch in zip(calls, together, strict=True):
        (alone,) = answers(decoder, [call])
        np.testing.assert_allclose(batch.scores, alone.scores, atol=1e-5)
        assert (batch.masks != alone.masks).mean() < 1e-3
    scores = {round(float(one.scores[0]), 6) for one in together[:5]}
    assert len(scores) == 5  # every prompt makes a difference


def test_a_route_that_keeps_one_mask_a_link_keeps_the_best() -> None:
    every, best = built(), built(small(routes=(replace(mask_routes()[0], top=1),)))
    names = ("star", "circle")
    boxes = boxes_of([[4, 4, 30, 30], [0, 0, 64, 48], [20, 20, 60, 40]], labels=[0, 1, 0], names=names)
    (all_,) = answers(every, [call_of(every.config, names=names, inputs=(boxes,))])
    (top,) = answers(best, [call_of(best.config, names=names, inputs=(boxes,))])
    assert sorted(top.labels.tolist()) == [0, 1]
    for label in (0, 1):
        np.testing.assert_allclose(
            top.scores[top.labels == label], all_.scores[all_.labels == label].max(), atol=1e-6
        )


def test_links_follow_the_tokens_of_boxes_and_can_be_left_out() -> None:
    with_links, without = built(), built(small(link_prompts=False))
    without.model.load_state_dict(with_links.model.state_dict())
    boxes = boxes_of([[4, 4, 30, 30]])
    call = call_of(with_links.config, inputs=(boxes,), threshold=0.0)
    seen: list[Tensor] = []
    for decoder in (with_links, without):
        decoder.model.mask_decoder.register_forward_pre_hook(
            lambda _, __, given: seen.append(given["sparse_prompt_embeddings"]), with_kwargs=True
        )
        answers(decoder, [call])
    token = with_links.config.routes[0].token
    assert [one.shape[2] for one in seen] == [2 + token.num_links, 2]
    assert torch.equal(seen[0][:, :, :2], seen[1])
    with torch.no_grad():
        projected = with_links.project(LinkBatch.of([call.links]))
    torch.testing.assert_close(seen[0][:, 0, 2:], projected[:, 0])
    with pytest.raises(InputError, match=r"sam\.0.*boxes, clicks or masks"):
        without.prepare([replace(call, inputs=())])


def test_of_three_masks_of_a_prompt_the_one_that_scores_best_is_served() -> None:
    decoder = built(small(multimask=True))
    call = call_of(decoder.config, inputs=(boxes_of([[4, 4, 30, 30]]),))
    with torch.no_grad():
        inputs, outputs = run(decoder, [call])
    assert outputs.logits.shape == (1, 3, 32, 32)
    fits = torch.tensor([[0.2, 0.9, 0.5]])
    logits = torch.full_like(outputs.logits, -9.0)
    logits[:, 1] = 9.0
    (found,) = decoder.postprocess(replace(outputs, logits=logits, fits=fits), inputs)
    assert isinstance(found, Masks)
    assert found.masks.all()
    np.testing.assert_allclose(found.scores, [0.9], atol=1e-6)


@pytest.mark.parametrize(("size", "scale"), [((32, 64), 1), ((96, 128), 2), ((128, 64), 2), ((16, 8), 0.25)])
def test_masks_come_back_in_the_pixels_of_the_picture(size: tuple[int, int], scale: float) -> None:
    """Bands of cells of the mask grid, known in the frame, are those bands of the picture."""
    decoder = built()
    inputs = decoder.prepare([call_of(decoder.config, names=("upright", "flat"), size=size)])
    low, high = 4, 12  # cells of 2 frame pixels
    logits = torch.full((2, 1, 32, 32), -9.0)
    logits[0, :, :, low:high] = 9.0
    logits[1, :, low:high] = 9.0
    outputs = SamOutputs(logits=logits, fits=torch.ones(2, 1), reached=torch.zeros(()))
    (found,) = decoder.postprocess(outputs, inputs)
    assert isinstance(found, Masks)
    height, width = size
    start, stop = int(2 * scale * low), int(2 * scale * high)
    upright, flat = (start, 0, min(stop, width), height), (0, start, width, min(stop, height))
    assert np.array_equal(found.masks, [rectangle(size, *upright), rectangle(size, *flat)])
    np.testing.assert_allclose(found.xyxy, [upright, flat])


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000), (20_000, 10)])
def test_extreme_pictures_get_masks_in_their_own_pixels(size: tuple[int, int]) -> None:
    decoder = built()
    boxes = boxes_of([[0, 0, size[1], size[0]]], size=size)
    (found,) = answers(decoder, [call_of(decoder.config, size=size, inputs=(boxes,))])
    assert found.masks.shape[1:] == size


def test_the_threshold_says_whether_what_a_link_alone_asks_for_is_there() -> None:
    decoder = built()
    call = call_of(decoder.config)
    logits = torch.full((1, 1, 32, 32), 9.0)
    weak = SamOutputs(logits=logits, fits=torch.full((1, 1), 0.2), reached=torch.zeros(()))

    def count(call: Call) -> int:
        (found,) = decoder.postprocess(weak, decoder.prepare([call]))
        assert isinstance(found, Masks)
        return len(found)

    boxed = replace(call, inputs=(boxes_of([[4, 4, 30, 30]]),))
    assert [count(one) for one in (call, replace(call, threshold=0.1), boxed)] == [0, 1, 1]
    assert count(replace(boxed, threshold=0.3)) == 0


def train_case(config: SamConfig) -> tuple[list[Call], list[Artifact]]:
    """Two calls: two links with three objects, and one link with one."""
    calls = [
        call_of(config, names=("a", "b"), seed=3, id="sam.0", image_id="x"),
        call_of(config, names=("a",), seed=4, id="sam.1", size=(40, 30), image_id="y"),
    ]
    first = [rectangle((48, 64), *box) for box in ((4, 4, 20, 20), (30, 10, 60, 40), (8, 30, 30, 44))]
    return calls, [
        masks_of(first, labels=[0, 1, 1], names=("a", "b")),
        masks_of([rectangle((40, 30), 5, 5, 25, 30)], names=("a",)),
    ]


@pytest.mark.parametrize("kind", ["link", "box", "points", "mask"])
def test_the_loss_of_a_batch_is_the_sum_of_its_calls_alone(kind: str) -> None:
    """What makes one worker with the whole batch equal to several with parts of it."""
    mix = replace(PromptMix(link=0, box=0, points=0, mask=1), **{"mask": 0, kind: 1})
    decoder = built(small(prompts=mix)).train()
    calls, targets = train_case(decoder.config)
    inputs, outputs = run(decoder, calls, targets)
    assert decoder.count(inputs) == (3 if kind == "link" else 4)  # objects of a label are one mask
    together = decoder.loss(outputs, inputs, count=4.0)
    alone = []
    for call, target in zip(calls, targets, strict=True):
        inputs, outputs = run(decoder, [call], [target])
        alone.append(decoder.loss(outputs, inputs, count=4.0))
    for name, term in together.items():
        torch.testing.assert_close(term, alone[0][name] + alone[1][name], rtol=1e-4, atol=1e-5)


def test_a_link_without_objects_is_taught_an_empty_mask_that_scores_nothing() -> None:
    mix = PromptMix(link=1, box=0, points=0, mask=0)
    decoder = built(small(prompts=mix)).train()
    call = call_of(decoder.config, names=("there", "absent"), seed=1)
    target = masks_of([rectangle((48, 64), 4, 4, 30, 30)], names=("there", "absent"))
    inputs, _ = run(decoder, [call], [target])
    assert inputs.targets is not None
    assert [one.link_alone for one in inputs.prompts] == [True, True]
    assert inputs.targets.masks.flatten(1).any(1).tolist() == [True, False]
    assert decoder.count(inputs) == 1


def test_two_rectangles_are_learned_from_their_links_and_from_boxes() -> None:
    torch.manual_seed(0)
    config = small(prompts=PromptMix(points=0, mask=0))
    decoder = built(config).train()
    names = ("left", "right")
    call = call_of(config, names=names, size=(64, 64))
    goals = [rectangle((64, 64), 4, 8, 28, 40), rectangle((64, 64), 36, 20, 60, 60)]
    target = masks_of(goals, labels=[0, 1], names=names)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    for _ in range(90):
        inputs, outputs = run(decoder, [call], [target])
        terms = decoder.loss(outputs, inputs, count=decoder.count(inputs))
        optimizer.zero_grad()
        torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum().backward()
        optimizer.step()
    boxes = boxes_of(target.xyxy.tolist(), labels=[0, 1], names=names, size=(64, 64))
    for given in ((), (boxes,)):
        (found,) = answers(decoder, [replace(call, inputs=given)])
        found = found.select(np.argsort(found.labels))
        assert found.labels.tolist() == [0, 1]
        iou = [(one & goal).sum() / (one | goal).sum() for one, goal in zip(found.masks, goals, strict=True)]
        assert min(iou) > 0.85
        np.testing.assert_allclose(found.scores, iou, atol=0.2)  # it knows how well it did


@HALVES
def test_half_precision_is_for_autocast_and_not_for_weights(dtype: torch.dtype) -> None:
    decoder = built().eval()
    check_half_precision(decoder, call_of(decoder.config), run, dtype)


def test_bfloat16_autocast_trains_with_finite_terms() -> None:
    decoder = built().train()
    calls, targets = train_case(decoder.config)
    with torch.autocast("cpu", torch.bfloat16):
        inputs, outputs = run(decoder, calls, targets)
    assert outputs.logits.dtype == outputs.fits.dtype == torch.float32
    terms = decoder.loss(outputs, inputs, count=4.0)
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())


def test_the_configuration_goes_through_json_with_the_decoder_that_comes_before() -> None:
    config = small(routes=mask_routes(2, after="[GRD]"))
    again = SamConfig.from_json(config.to_json())
    assert again == config
    assert again.routes[0].after == "[GRD]"
    with pytest.raises(ModelError, match="depth"):
        SamConfig.from_json(config.to_json() | {"depth": 3})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_size": 60}, "multiple of 8"),
        ({"patch_size": 2, "image_size": 64}, "multiple of 4"),
        ({"vision_heads": 5}, "vision_heads"),
        ({"decoder_heads": 3}, "decoder_heads"),
        ({"global_layers": (2,)}, "below 2"),
        ({"iou_layers": 1}, "at least 2"),
    ],
)
def test_configurations_that_cannot_be_built_say_why(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        small(**changes)


def test_the_small_configuration_answers_at_224_pixels_with_few_weights() -> None:
    config = small_sam()
    decoder = built(config)
    assert config.image_size == 224
    assert sum(weight.numel() for weight in decoder.parameters()) < 3e6
    (found,) = answers(decoder, [call_of(config, size=(200, 224), threshold=0.0)])
    assert found.masks.shape[1:] == (200, 224)


def test_training_prompts_need_a_share() -> None:
    with pytest.raises(ModelError, match="not all 0"):
        PromptMix(link=0, box=0, points=0, mask=0)


def test_bad_calls_are_refused_by_name() -> None:
    decoder = built()
    call = call_of(decoder.config)
    target = masks_of([rectangle((48, 64), 4, 4, 30, 30)])
    with pytest.raises(InputError, match=r"sam\.0"):
        decoder.prepare([replace(call, image=None)])
    with pytest.raises(DataError, match="needs Masks as its target, got Boxes"):
        decoder.prepare([call], [target.boxes()])
    with pytest.raises(DataError, match="1 links, but a target is labelled 1"):
        decoder.prepare([call], [replace(target, labels=np.ones(1, np.int64), names=("a", "b"))])
    with pytest.raises(DataError, match="target for one of"):
        decoder.prepare([call], [masks_of([rectangle((9, 9), 0, 0, 4, 4)])])
    with pytest.raises(DataError, match="2 targets"):
        decoder.prepare([call], [target, target])
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


def test_it_stands_in_a_tuple_beside_a_detector() -> None:
    """What the first finds is a prompt for the second as it is."""
    from superlink.decoders.grounding_dino.config import perception_routes
    from tests.decoders.grounding_dino.detectors import answers as detect
    from tests.decoders.grounding_dino.detectors import call_of as detection_call
    from tests.decoders.grounding_dino.detectors import small as small_detector

    detector = small_detector(routes=perception_routes()[:2], mask_dim=0, num_feature_levels=4).build(
        LINK_DIM
    )
    decoder = built()
    texts = [route.token.text for one in (detector.config, decoder.config) for route in one.routes]
    assert len(set(texts)) == len(texts)
    (after,) = {route.after for route in decoder.config.routes}
    assert after in texts
    names = ("star", "circle")
    upstream = detection_call(detector.config, names=names, threshold=0.0)
    (boxes,) = detect(detector, [upstream])
    assert isinstance(boxes, Boxes)
    best = boxes.select(slice(5))
    call = call_of(decoder.config, names=names, image=upstream.image, inputs=(best,))
    (masks,) = answers(decoder, [call])
    assert 0 < len(masks) <= 5
    assert set(masks.labels.tolist()) <= set(best.labels.tolist())


@pytest.mark.parametrize("part", ["logits", "fits"])
def test_a_call_with_damaged_masks_fails_by_name(part: str) -> None:
    decoder = built(small(routes=mask_routes(1, after=None)))
    calls = [call_of(decoder.config, id=name) for name in ("good", "damaged")]
    with torch.inference_mode():
        inputs, outputs = run(decoder, calls)
    damaged = getattr(outputs, part).clone()
    damaged[-1] = torch.nan
    with pytest.raises(DecoderError, match=r"call 'damaged': .* not finite"):
        decoder.postprocess(replace(outputs, **{part: damaged}), inputs)


def test_training_prompts_take_any_seed_and_depend_on_it() -> None:
    decoder = built()
    call = call_of(decoder.config)
    target = masks_of([rectangle((48, 64), 8, 8, 40, 40)])
    drawn = [decoder.prepare([replace(call, seed=seed)], [target]).targets for seed in (-1, -1, 2**64 - 1)]
    masks = [one.masks for one in drawn if one is not None]
    assert len(masks) == 3
    assert all(torch.equal(one, masks[0]) for one in masks[1:])
