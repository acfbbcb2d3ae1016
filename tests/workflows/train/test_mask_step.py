"""Masks of detected boxes: who learns masks of a link teaches the detector its boxes, as it is served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Boxes, Masks, tight_boxes
from superlink.decoders.contract import DecoderConfig
from superlink.decoders.grounding_dino.config import perception_routes
from superlink.decoders.sam.config import mask_routes
from superlink.router.messages import Message, Point
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.train.module import JointModule
from superlink.workflows.train.plan import PlannedCall, plan_calls, routing_tokens
from superlink.workflows.train.systems import FreshSystem
from tests.decoders.grounding_dino.detectors import small as small_detector
from tests.decoders.sam.segmenters import small as small_sam
from tests.workflows.train.tiny_system import router_config, tokenizer

DETECTOR = small_detector(routes=perception_routes(2)[:2])
SAM = small_sam(routes=mask_routes(2))
TEXT = "<det>cat</det>[SEG], <det>region1</det>[SEG] and <det>dog</det>[SEG]."


def masks_of(names: tuple[str, ...], labels: tuple[int, ...]) -> Masks:
    """Rectangles, one for each label, each elsewhere; the last one is empty."""
    masks = np.zeros((len(labels), 48, 64), np.bool_)
    for row in range(len(labels) - 1):
        masks[row, 5 + row : 20, 10 * row : 10 * row + 8] = True
    return Masks(
        masks=masks,
        xyxy=tight_boxes(masks),
        scores=np.ones(len(labels), np.float32),
        labels=np.array(labels),
        names=names,
        size=(48, 64),
    )


def sample(text: str = TEXT, *, pointed_out: bool = False, target: Masks | None = None) -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    prompts = (Point(3, 4),) if pointed_out else ()
    found = target or masks_of(("cat", "region1", "dog"), (2, 0, 1, 2, 0))
    return Sample(
        conversation=(
            Message(role="user", text="red", images=(image,), prompts=prompts),
            Message(role="assistant", text=text),
        ),
        image=image,
        targets=(Target(token="[SEG]", artifact=found),),
        task="toy",
        source="toy:masks",
    )


def plan(asked: Sample, *configs: DecoderConfig) -> list[PlannedCall]:
    return plan_calls(asked, {one.name: one for one in configs}, routing_tokens(configs))


def test_the_detector_is_asked_for_the_boxes_of_the_masks_with_the_same_links() -> None:
    first, second = plan(sample(), DETECTOR, SAM)
    assert (first.decoder, second.decoder) == ("grounding_dino", "sam")
    assert first.links == second.links == (0, 1, 2)
    assert first.call.token.text == "[DET]"
    assert first.call.names == second.call.names == ("cat", "region1", "dog")
    assert isinstance(first.target, Boxes)
    assert first.target.names == ("cat", "region1", "dog")
    assert first.target.labels.tolist() == [2, 0, 1, 2]  # an empty mask has no box
    np.testing.assert_array_equal(
        first.target.xyxy, [[0, 5, 8, 20], [10, 6, 18, 20], [20, 7, 28, 20], [30, 8, 38, 20]]
    )
    DETECTOR.check(first.call)


def test_what_a_person_points_out_is_not_asked_of_the_detector() -> None:
    first, second = plan(sample(pointed_out=True), DETECTOR, SAM)
    assert (first.links, second.links) == ((0, 2), (0, 1, 2))
    assert isinstance(first.target, Boxes)
    assert first.target.names == first.call.names == ("cat", "dog")
    assert first.target.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(first.target.xyxy[:, 0], [0, 10, 30])
    alone = sample("<det>Region 1</det>[SEG]", pointed_out=True, target=masks_of(("Region 1",), (0, 0)))
    assert [one.decoder for one in plan(alone, DETECTOR, SAM)] == ["sam"]


@pytest.mark.parametrize("configs", [(SAM,), (DETECTOR, replace(SAM, routes=mask_routes(2, after=None)))])
def test_masks_that_come_after_nothing_make_one_call(configs: tuple[DecoderConfig, ...]) -> None:
    assert [one.decoder for one in plan(sample(), *configs)] == ["sam"]


def test_a_step_teaches_both_decoders_through_one_link() -> None:
    torch.manual_seed(0)
    tokens = tuple(route.token for config in (DETECTOR, SAM) for route in config.routes)
    module: JointModule = FreshSystem(
        name="toy",
        router=replace(router_config(), tokens=tokens),
        decoders=(DETECTOR, SAM),
        tokenizer=tokenizer(),
    ).build()
    batch = module.prepare([sample()])
    assert batch.counts["grounding_dino"] == 4.0
    terms = module(batch, {name: max(count, 1.0) for name, count in batch.counts.items()})
    for decoder in ("grounding_dino", "sam"):
        own = {name: term for name, term in terms.items() if name.startswith(decoder)}
        assert own
        for parameter in module.router.parameters():
            parameter.grad = None
        module.total(own, {}).backward(retain_graph=True)
        gradient = module.router.queries["det"].weight.grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0
