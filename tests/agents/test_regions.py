"""Points, boxes, scribbles and masks of a question, as Segment Anything gets them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlink.agents.model_folder import Model
from superlink.agents.regions import SCRIBBLE_CLICKS, region_input
from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.decoders.contract import Call
from superlink.decoders.sam.prompts import prompts_of
from superlink.router.messages import Box, Mask, Point, Scribble
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import scene

CUT = "Here: <det>region1</det>[SEG]."


def painted(height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), np.bool_)
    mask[5:15, 20:50] = True
    return mask


def cutter(engine: Any) -> Call:
    """The last call of Segment Anything."""
    return [call for decoder, call in engine.calls if decoder == "sam"][-1]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (Point(3, 4), Keypoints),
        (Scribble(((2, 2), (30, 30))), Keypoints),
        (Box(-5, 10, 20, 100), Boxes),
        (Mask(painted()), Masks),
    ],
)
def test_a_prompt_goes_to_the_masks_itself_and_no_detector_looks_for_it(
    family: Model, prompt: Any, kind: type
) -> None:
    system, engine = scripted(family, CUT)
    turn = system.ask("Outline region1.", image=scene(), prompts=[prompt])
    assert turn.failures == ()
    assert turn.masks.names == ("region1",)
    assert [decoder for decoder, _ in engine.calls] == ["sam"]
    (given_,) = cutter(engine).inputs
    assert isinstance(given_, kind)


def test_prompts_are_in_pixels_of_the_picture() -> None:
    size = (40, 60)
    point = region_input(Point(3.5, 4), "region1", size)
    assert isinstance(point, Keypoints)
    np.testing.assert_array_equal(point.xyv, [[[3.5, 4, 2]]])
    box = region_input(Box(-5, 10, 20, 100), "region1", size)
    np.testing.assert_array_equal(box.xyxy, [[0, 10, 20, 40]])
    mask = region_input(Mask(painted()), "region2", size)
    assert isinstance(mask, Masks)
    np.testing.assert_array_equal(mask.masks[0], painted())
    np.testing.assert_array_equal(mask.xyxy, [[20, 5, 50, 15]])
    assert mask.phrases == ("region2",)


@given(st.lists(st.tuples(st.floats(-20, 80), st.floats(-20, 60)), max_size=6))
def test_clicks_of_a_scribble_are_where_the_pen_was_and_on_the_picture(
    points: list[tuple[float, float]],
) -> None:
    points = [(30.0, 20.0), *points]
    found = region_input(Scribble(tuple(points)), "region1", (40, 60))
    assert isinstance(found, Keypoints)
    clicked = {(float(x), float(y)) for x, y in found.xyv[0, :, :2]}
    cut = {(float(np.float32(min(max(x, 0), 59))), float(np.float32(min(max(y, 0), 39)))) for x, y in points}
    assert clicked <= cut
    assert min(len(cut), 1) <= len(found.xyv[0]) <= SCRIBBLE_CLICKS


def test_a_long_scribble_is_clicked_evenly() -> None:
    line = tuple((float(x), 10.0) for x in range(41))
    found = region_input(Scribble(line), "region1", (40, 60))
    assert isinstance(found, Keypoints)
    np.testing.assert_array_equal(found.xyv[0, :, 0], [5, 15, 25, 35])


def test_a_scribble_of_one_point_is_one_click() -> None:
    found = region_input(Scribble(((7, 8),)), "region1", (40, 60))
    assert isinstance(found, Keypoints)
    np.testing.assert_array_equal(found.xyv, [[[7, 8, 2]]])


def test_phrases_without_a_prompt_go_by_the_boxes_of_the_detector_first(family: Model) -> None:
    text = "Here: <det>region1</det>[SEG], <det>star</det>[SEG], <det>region2</det>[SEG]."
    system, engine = scripted(family, text)
    turn = system.ask("Outline them.", image=scene(), prompts=[Box(4, 4, 20, 20), Point(40, 30)])
    assert turn.failures == ()
    assert turn.masks.names == ("region1", "star", "region2")
    (finder, asked), (_, call) = engine.calls
    assert (finder, asked.names, asked.inputs) == ("grounding_dino", ("star",), ())
    first, second, found = call.inputs
    assert (first.names, second.names, found.names) == (("region1",), ("region2",), ("star",))
    assert isinstance(found, Boxes)
    prompts = prompts_of(call)
    # The click is region2's own, and refines no box of another phrase.
    assert [(one.label, one.box is not None, len(one.points)) for one in prompts] == [
        (0, True, 0),
        *[(1, True, 0)] * len(found),
        (2, False, 1),
    ]


@pytest.mark.parametrize("said", ["region 1", "Region1"])
def test_a_region_may_be_written_in_other_ways(family: Model, said: str) -> None:
    system, engine = scripted(family, CUT.replace("region1", said))
    turn = system.ask(f"Outline {said}.", image=scene(), prompts=[Point(3, 4)])
    assert turn.masks.names == (said,)
    assert [decoder for decoder, _ in engine.calls] == ["sam"]
    assert [one.names for one in cutter(engine).inputs] == [(said,)]


def test_regions_count_through_a_session_and_stay_with_their_picture(family: Model) -> None:
    again = "Here: <det>region1</det>[SEG], <det>region2</det>[SEG]."
    system, engine = scripted(family, CUT, again, again)
    session = system.session()
    session.ask("Outline region1.", image=scene(), prompts=[Point(3, 4)])
    session.ask("Outline both.", prompts=[Box(9, 9, 30, 30)])
    assert [one.names for one in cutter(engine).inputs] == [("region1",), ("region2",)]
    # On another picture the old regions mean nothing: the detector is asked.
    session.ask("And here?", image=scene(seed=5))
    assert [decoder for decoder, _ in engine.calls][-2:] == ["grounding_dino", "sam"]
    assert session.region_count == 2


def test_refining_over_rounds_encodes_the_picture_once(
    family: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = next(decoder for decoder in family.decoders if decoder.config.name == "sam")
    encoded: list[int] = []
    encode = sam.model.encode
    monkeypatch.setattr(sam.model, "encode", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    rounds = [f"Here: <det>region{k}</det>[SEG]." for k in (1, 2, 3, 4)]
    system, engine = scripted(family, *rounds)
    session = system.session()
    first = session.ask("Outline region1.", image=scene(seed=11), prompts=[Point(3, 4)])
    assert encoded == [1]
    corrected = session.ask("With region2.", prompts=[Point(30, 20)], refs=[first.masks])
    old, click = cutter(engine).inputs
    assert isinstance(old, Masks)
    np.testing.assert_array_equal(old.masks, first.masks.masks)
    (prompt,) = prompts_of(cutter(engine))
    assert prompt.mask is not None
    np.testing.assert_allclose(prompt.points, [[30, 20]])
    boxed = session.ask("In region3.", prompts=[Box(1, 1, 50, 39)], refs=[corrected.masks])
    (only,) = cutter(engine).inputs
    np.testing.assert_array_equal(only.xyxy, [[1, 1, 50, 39]])
    assert (click.names, boxed.failures) == (("region2",), ())
    assert encoded == [1]
    session.ask("Another: region4.", image=scene(seed=12), prompts=[Point(3, 4)])
    assert encoded == [1, 1]


def test_refs_that_do_not_fit_the_regions_fail_that_call_alone(family: Model) -> None:
    system, _ = scripted(family, "Here: <det>star</det>[DET].", "Here: <det>region1</det>[SEG].")
    session = system.session()
    boxes = session.ask("Find stars.", image=scene()).boxes
    assert len(boxes) > 1
    turn = session.ask("Outline region1.", prompts=[Point(3, 4)], refs=[boxes])
    (failure,) = turn.failures
    assert (failure.call_id, failure.kind) == ("sam.0", "input")
    assert f"cannot refine {len(boxes)} earlier results" in failure.error
    assert turn.text == "Here: region1."
