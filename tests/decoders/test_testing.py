"""The conformance kit finds what it is there to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from superlink.decoders import testing
from superlink.decoders.artifacts import Artifact, Boxes, Text
from superlink.decoders.contract import Call, Route
from superlink.decoders.grounding_dino.decoder import DetectionOutputs, GroundingDinoDecoder
from superlink.decoders.grounding_dino.inputs import DetectionInputs
from tests.decoders.grounding_dino.detectors import small

SMALL = small()


class Reversed(GroundingDinoDecoder):
    """Answers in the wrong order."""

    def postprocess(self, outputs: DetectionOutputs, inputs: DetectionInputs) -> list[Artifact]:
        return super().postprocess(outputs, inputs)[::-1]


class Outside(GroundingDinoDecoder):
    """Boxes reach over the edge."""

    def postprocess(self, outputs: DetectionOutputs, inputs: DetectionInputs) -> list[Artifact]:
        found = super().postprocess(outputs, inputs)
        return [
            replace(one, xyxy=one.xyxy + np.float32(1)) if isinstance(one, Boxes) else one for one in found
        ]


class Unweighted(GroundingDinoDecoder):
    """Returns a loss term that has no weight."""

    def loss(self, outputs: DetectionOutputs, inputs: DetectionInputs, *, count: float) -> dict[str, Any]:
        terms = super().loss(outputs, inputs, count=count)
        return terms | {"loss_new": terms["loss_ce"]}


class Careless(GroundingDinoDecoder):
    """Takes any call."""

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> DetectionInputs:
        filled = [
            replace(one, image=np.zeros((4, 4, 3), np.uint8)) if one.image is None else one for one in calls
        ]
        return super().prepare(filled, targets)


def kit_of(kind: type[GroundingDinoDecoder]) -> testing.Kit:
    kit = testing.make_kit(SMALL)
    return replace(kit, decoder=kind(SMALL, 32))


@pytest.mark.parametrize(
    ("kind", "check", "sentence"),
    [
        (Reversed, testing.check_answers, "does not name its picture"),
        (Outside, testing.check_answers, "outside the picture"),
        (Unweighted, testing.check_training, "without a weight"),
        (Careless, testing.check_bad_call, "accepted"),
    ],
)
def test_the_kit_says_what_is_wrong(kind: type[GroundingDinoDecoder], check: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check(kit_of(kind))


def test_other_kinds_of_answer_need_their_own_targets() -> None:
    call = testing.make_kit(SMALL).calls[0]
    with pytest.raises(TypeError, match="target"):
        testing.box_or_mask_target(call, Route(token=SMALL.routes[0].token, returns=Text))
