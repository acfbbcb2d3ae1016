"""Objects and keypoints: links of two routing tokens in one call, in training as in serving."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Keypoints
from superlink.decoders.unipose.config import pose_routes
from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.train.module import JointModule
from superlink.workflows.train.plan import plan_calls, routing_tokens
from superlink.workflows.train.systems import FreshSystem
from tests.decoders.unipose.poses import small
from tests.workflows.train.tiny_system import router_config, tokenizer

CONFIG = small(routes=pose_routes(2))
TOKENS = routing_tokens([CONFIG])
TEXT = "<det>cat</det>[DET] and <det>man</det>[DET]: <det>nose</det>[POSE], <det>tail</det>[POSE]."


def sample(
    text: str = TEXT, names: tuple[str, ...] = ("cat", "man"), parts: tuple[str, ...] = ("nose", "tail")
) -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    answer = Keypoints(
        xyv=np.full((1, len(parts), 3), 20.0, np.float32),
        keypoint_names=parts,
        xyxy=np.array([[10.0, 10.0, 40.0, 40.0]], np.float32),
        scores=np.ones(1, np.float32),
        labels=np.array([1]),
        names=names,
        size=(48, 64),
    )
    return Sample(
        conversation=(
            Message(role="user", text="red", images=(image,)),
            Message(role="assistant", text=text),
        ),
        image=image,
        targets=(Target(token="[POSE]", artifact=answer),),
        task="toy",
        source="toy:pose",
    )


def test_links_of_objects_join_the_call_of_their_keypoints() -> None:
    (planned,) = plan_calls(sample(), {"unipose": CONFIG}, TOKENS)
    assert (planned.decoder, planned.links) == ("unipose", (0, 1, 2, 3))
    assert (planned.call.names, planned.call.parts) == (("cat", "man"), ("nose", "tail"))
    assert planned.call.token.text == "[POSE]"


def test_objects_stand_first_wherever_they_are_written() -> None:
    text = "<det>nose</det>[POSE] and <det>tail</det>[POSE] of each <det>cat</det>[DET], <det>man</det>[DET]."
    (planned,) = plan_calls(sample(text), {"unipose": CONFIG}, TOKENS)
    assert planned.links == (2, 3, 0, 1)
    assert planned.call.names == ("cat", "man")


@pytest.mark.parametrize(
    ("names", "parts", "message"),
    [
        (("cat",), ("nose", "tail"), r"writes 2 \[DET\] but its target names 1 classes: \['cat'\]"),
        (("cat", "man"), ("nose",), r"writes 2 \[POSE\] but its target names 1 keypoints: \['nose'\]"),
    ],
)
def test_names_that_do_not_match_the_links_are_an_error(
    names: tuple[str, ...], parts: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        plan_calls(sample(names=names, parts=parts), {"unipose": CONFIG}, TOKENS)


def test_a_step_teaches_the_router_through_both_kinds_of_links() -> None:
    torch.manual_seed(0)
    route = CONFIG.routes[0]
    router = replace(router_config(), tokens=(*route.takes, route.token))
    module: JointModule = FreshSystem(
        name="toy", router=router, decoders=(CONFIG,), tokenizer=tokenizer()
    ).build()
    batch = module.prepare([sample()])
    assert batch.counts["unipose"] == 1.0
    terms = module(batch, batch.counts)
    module.total(terms, {"language": 0.0}).backward()
    for table in ("det", "pose"):
        gradient = module.router.queries[table].weight.grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0
