"""Questions of an evaluation carry what a session's would."""

from __future__ import annotations

import numpy as np

from superlink.decoders.artifacts import Boxes, Keypoints
from superlink.router.messages import Box, Message, Point
from superlink.workflows.eval.answering import question_of

FIRST = np.zeros((40, 60, 3), np.uint8)
SECOND = np.full((40, 60, 3), 9, np.uint8)


def told(text: str, *prompts: Box | Point, image: np.ndarray | None = None) -> Message:
    return Message(role="user", text=text, prompts=prompts, images=() if image is None else (image,))


def test_what_was_pointed_out_reaches_the_decoders_under_the_names_that_the_router_reads() -> None:
    reply = Message(role="assistant", text="Yes.")
    asked = question_of(
        (
            told("outline region1", Box(1, 2, 11, 22), image=FIRST),
            reply,
            told("and region2", Point(5, 6)),
        ),
        FIRST,
    )
    assert set(asked.regions) == {"region1", "region2"}
    box, click = asked.regions["region1"], asked.regions["region2"]
    assert isinstance(box, Boxes)
    assert isinstance(click, Keypoints)
    assert box.xyxy.tolist() == [[1, 2, 11, 22]]
    assert click.xyv[0, 0, :2].tolist() == [5, 6]


def test_what_was_pointed_out_on_another_picture_does_not() -> None:
    reply = Message(role="assistant", text="Yes.")
    asked = question_of(
        (
            told("outline region1", Box(1, 2, 11, 22), image=FIRST),
            reply,
            told("and region2", Point(5, 6), image=SECOND),
        ),
        SECOND,
    )
    assert set(asked.regions) == {"region2"}
    assert question_of((told("hello"),), None).regions == {}
