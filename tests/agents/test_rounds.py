"""Rounds that make, edit and look at pictures; options; examples; what cannot be done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superlink.agents.dispatch import Dispatcher, Task
from superlink.agents.model_folder import Model
from superlink.agents.options import checked_options, shared_options
from superlink.agents.pictures import picture_id
from superlink.decoders.artifacts import Boxes, Keypoints
from superlink.decoders.contract import Failure
from superlink.router.errors import InputError
from superlink.router.messages import Mask, Point
from tests.agents.tiny_family import configs, scripted
from tests.agents.tiny_model import scene

FIND = "Here: <det>star</det>[DET]."
GEN = "Here is <det>a blue star</det>[GEN]."
EDIT = "Done: <det>make it green</det>[EDIT]."


def test_what_was_made_is_what_the_next_round_is_about(family: Model) -> None:
    system, engine = scripted(family, GEN, EDIT, FIND)
    session = system.session()
    assert session.picture is None
    made = session.ask("Paint a blue star.").picture
    assert made is not None
    changed = session.ask("Make it green.").picture
    assert changed is not None
    call = engine.calls[-1][1]
    np.testing.assert_array_equal(call.image, made.pixels)
    assert changed.origin.source == picture_id(made.pixels)
    found = session.ask("Find the star.")
    assert found.boxes.size == changed.pixels.shape[:2]
    assert found.image is not None
    assert found.image.name == "picture-2"
    # The router sees each of the two as well, once.
    assert [len(message.images) for message in engine.requests[-1].conversation] == [0, 0, 1, 0, 1]


def test_refs_choose_the_picture_that_they_speak_of(family: Model) -> None:
    system, engine = scripted(family, FIND, EDIT, FIND, EDIT, EDIT)
    session = system.session()
    first = session.ask("Find the star.", image=scene())
    edited = session.ask("Make it green.")
    assert edited.picture is not None
    back = session.ask("Only this one.", refs=[first.boxes])
    assert back.image is not None
    assert first.image is not None
    assert back.image.id == first.image.id
    again = session.ask("Make it green.", refs=[edited.picture])
    np.testing.assert_array_equal(engine.calls[-1][1].image, edited.picture.pixels)
    assert again.failures == ()
    with pytest.raises(InputError, match="'picture-1' is a picture of its own; leave image= out"):
        session.ask("Make it green.", image=scene(), refs=[edited.picture])
    # In a session of its own a picture is a picture.
    assert system.session().ask("Make it green.", refs=[edited.picture]).failures == ()


def test_an_edit_without_any_picture_is_one_failure(family: Model) -> None:
    system, _ = scripted(family, EDIT)
    turn = system.session().ask("Make it green.")
    (failure,) = turn.failures
    assert (failure.call_id, failure.kind) == ("instruct_pix2pix.0", "input")
    assert "there is none yet" in failure.error
    assert turn.text == "Done: make it green."


def links_of(family: Model, text: str) -> tuple[Any, ...]:
    from superlink.router.generation import generate
    from superlink.router.messages import Message
    from superlink.router.requests import GenerateOptions, Request
    from tests.agents.tiny_model import reply_ids

    options = GenerateOptions(forced=reply_ids(text))
    conversation = (Message(role="user", text="Go."),)
    (reply,) = generate(
        family.router, family.tokenizer, [Request(conversation=conversation, options=options)]
    )
    return reply.links


def test_options_reach_their_own_decoder_and_no_other_question(family: Model) -> None:
    both = "Find <det>star</det>[DET] and see <det>a star</det>[GEN]."
    system, engine = scripted(family, both, both, both)
    small = system.ask(
        "Go.", image=scene(), options={"stable_diffusion": {"steps": 1, "width": 8, "height": 16}}
    )
    assert small.picture is not None
    assert small.picture.pixels.shape == (16, 8, 3)
    assert [dict(call.options) for _, call in engine.calls] == [
        {"steps": 1, "width": 8, "height": 16},
        {},
    ]
    session = system.session()
    session.ask("Go.", image=scene(), options={"stable_diffusion": {"width": 32}})
    later = session.ask("Go.", image=scene())
    assert later.picture is not None
    assert later.picture.pixels.shape == (16, 16, 3)


def test_the_detector_before_the_masks_has_options_of_its_own(family: Model) -> None:
    system, engine = scripted(family, "<det>star</det>[SEG].")
    task = Task(image=scene(), options={"sam": {"a": 1}, "grounding_dino": {"b": 2}})
    dispatcher = Dispatcher(engine, [task])
    dispatcher.link(0, links_of(family, "<det>star</det>[SEG].")[0])
    dispatcher.finish()
    dispatcher.outcomes(0)
    assert [(name, dict(call.options)) for name, call in engine.calls] == [
        ("grounding_dino", {"b": 2}),
        ("sam", {"a": 1}),
    ]
    system.close()


def test_unknown_options_are_refused_before_anything_runs(family: Model) -> None:
    system, engine = scripted(family)
    for options, words in (
        ({"painter": {"steps": 3}}, "'painter', which is no decoder of this model; there are grounding_dino"),
        ({"stable_diffusion": {"stesp": 3}}, "no option 'stesp'; possible are steps, guidance"),
        ({"sam": {"steps": 3}}, "'sam' has no option 'steps'; there are no options"),
        ({"sam": 3}, "by their names"),
    ):
        given: Any = options
        with pytest.raises(InputError, match=words):
            system.ask("Go.", image=scene(), options=given)
        with pytest.raises(InputError, match=words):
            system.session().ask("Go.", image=scene(), options=given)
    assert engine.requests == []


def test_a_bad_value_fails_that_call_alone(family: Model) -> None:
    system, _ = scripted(family, "Find <det>star</det>[DET] and see <det>a star</det>[GEN].")
    turn = system.ask("Go.", image=scene(), options={"stable_diffusion": {"steps": 0}})
    assert [failure.kind for failure in turn.failures] == ["input"]
    assert "steps is a whole number" in turn.failures[0].error
    assert len(turn.boxes) > 0


def test_an_option_said_once_is_for_every_decoder_that_has_it() -> None:
    decoders = configs()
    assert shared_options({"steps": 3, "width": 8}, decoders) == {
        "stable_diffusion": {"steps": 3, "width": 8},
        "instruct_pix2pix": {"steps": 3},
    }
    assert shared_options({}, decoders) == {}
    assert checked_options(None, decoders) == {}
    with pytest.raises(InputError, match="no decoder of this model has the option 'steps'"):
        shared_options({"steps": 3}, decoders[:2])


def test_keypoints_that_the_model_does_not_know_are_a_failure(family: Model) -> None:
    good = "A <det>person</det>[DET] with <det>nose</det>[POSE]."
    system, _ = scripted(family, good, good.replace("nose", "tail"))
    found = system.ask("Where is the nose?", image=scene()).first(Keypoints)
    assert found.keypoint_names == ("nose",)
    turn = system.ask("Where is the tail?", image=scene())
    (failure,) = turn.failures
    assert isinstance(failure, Failure)
    assert failure.kind == "input"
    assert "tail; it knows nose, left eye" in failure.error


def test_examples_are_rounds_before_the_question(family: Model) -> None:
    system, engine = scripted(family, FIND, FIND, "Here: <det>region3</det>[SEG].")
    meant = np.zeros((40, 60), np.uint8)
    meant[4:9, 5:25] = 1
    examples = [(scene(seed=1), meant), (scene(seed=2), Point(9, 9))]
    turn = system.ask("Find the same kind.", examples=examples, image=scene())
    assert turn.failures == ()
    messages = engine.requests[0].conversation
    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [len(message.images) for message in messages] == [1, 0, 1, 0, 1]
    (mask,) = messages[0].prompts
    assert isinstance(mask, Mask)
    np.testing.assert_array_equal(mask.mask, meant > 0)
    session = system.session()
    session.ask("Find the star.", image=scene())
    session.ask("Outline region3.", examples=examples, prompts=[Point(3, 4)])
    last = engine.requests[-1].conversation[-1]
    # The picture is shown again: the last one seen was an example's.
    np.testing.assert_array_equal(last.images[0], scene())
    assert [one.names for one in engine.calls[-1][1].inputs] == [("region3",)]
    assert session.region_count == 3


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ((scene(), np.ones((60, 40), np.bool_)), "example 1: a mask prompt must be as large as its picture"),
        ((scene(), np.zeros((40, 60), np.bool_)), "example 1: .* got an empty mask"),
        ((scene(), Point(99, 3)), r"example 1: point \(99, 3\) lies outside"),
        (("nowhere.png", Point(9, 3)), "example 1: .* does not exist"),
        ((scene(), "all of it"), "example 1 needs a mask array or a prompt, got str"),
        ((scene(),), "example 1 is a pair"),
    ],
)
def test_an_example_that_cannot_be_used_is_named(family: Model, example: Any, words: str) -> None:
    system, engine = scripted(family)
    with pytest.raises(InputError, match=words):
        system.session().ask("The same.", examples=[example], image=scene())
    assert engine.requests == []


def test_made_pictures_are_drawn_beside_the_one_asked_about(family: Model) -> None:
    system, _ = scripted(family, "Find <det>star</det>[DET] and see <det>a star</det>[GEN].", GEN)
    with_boxes = system.ask("Go.", image=scene())
    assert isinstance(with_boxes.first(Boxes), Boxes)
    height, width = with_boxes.draw().pixels.shape[:2]
    assert width > 1.5 * height + height  # 60 x 40 pixels, then a square
    alone = system.ask("Go.")
    assert alone.picture is not None
    np.testing.assert_array_equal(alone.draw().pixels, alone.picture.pixels)
