"""Sessions and one-shot questions through a real router and a real decoder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from superlink.agents.model_folder import Model
from superlink.agents.system import System
from superlink.decoders.artifacts import Artifact, Boxes, Masks, Origin, Text, equal
from superlink.decoders.contract import Call
from superlink.router.errors import InputError
from superlink.router.messages import Box, Mask, Point, Scribble
from tests.agents.tiny_model import saying, scene


def test_a_question_gives_text_boxes_and_masks_of_what_was_named(system: System) -> None:
    turn = system.ask("Find them.", image=scene())
    assert turn.text == "Here: red circle, heart, star."
    assert [type(artifact) for artifact in turn.artifacts] == [Boxes, Masks]
    assert turn.boxes.names == ("red circle", "heart")
    assert turn.masks.names == ("star",)
    assert turn.masks.masks.shape[1:] == (40, 60)
    assert turn.failures == ()
    assert set(turn.timings) == {"router", "grounding_dino"}
    assert [artifact.origin.id for artifact in turn.artifacts] == ["boxes-1", "masks-1"]


def test_a_reply_without_tokens_has_words_only(model: Model) -> None:
    with saying(model, "Hello there.") as system:
        turn = system.ask("Hello")
    assert (turn.text, turn.raw) == ("Hello there.", "Hello there.")
    assert turn.artifacts == ()
    assert len(turn.boxes) == len(turn.masks) == len(turn.keypoints) == 0
    assert turn.picture is None
    with pytest.raises(InputError, match="no artifacts"):
        turn.first(Boxes)


def test_a_batch_answers_as_its_questions_would_alone(system: System) -> None:
    pictures = [scene(seed=1), scene(30, 30, seed=2), scene(50, 20, seed=3)]
    texts = ["Find them.", "Where is the heart?", "All of it, please: circles, hearts and stars."]
    together = system.ask(texts, image=pictures)
    for text, picture, turn in zip(texts, pictures, together, strict=True):
        alone = system.ask(text, image=picture)
        assert turn.raw == alone.raw
        for one, other in zip(turn.artifacts, alone.artifacts, strict=True):
            assert equal(one, other, atol=1e-2)


def test_one_text_goes_with_every_image_and_one_image_with_every_text(system: System) -> None:
    sizes = [turn.boxes.size for turn in system.ask("Find.", image=[scene(8, 9), scene(10, 11)])]
    assert sizes == [(8, 9), (10, 11)]
    sizes = [turn.boxes.size for turn in system.ask(["Find.", "Look."], image=scene(8, 9))]
    assert sizes == [(8, 9), (8, 9)]
    assert system.ask([]) == []
    with pytest.raises(InputError, match=r"2 texts .* 1 images"):
        system.ask(["a", "b"], image=[scene()])


def test_a_bad_item_of_a_batch_spares_the_others(system: System, tmp_path: Path) -> None:
    words = "circle " * 10_000
    turns = system.ask(
        ["Find.", "Find.", " ", words, "Find."],
        image=[scene(), str(tmp_path / "no.png"), scene(), scene(), scene(seed=5)],
    )
    assert [bool(turn.error) for turn in turns] == [False, True, True, True, False]
    assert "does not exist" in turns[1].error
    assert "empty" in turns[2].error
    assert "positions" in turns[3].error
    assert all(len(turn.artifacts) == 2 for turn in (turns[0], turns[4]))


@pytest.mark.parametrize("text", ["", "  \n", "word " * 10_000])
def test_an_instruction_that_cannot_be_used_is_refused_in_one_line(system: System, text: str) -> None:
    with pytest.raises(InputError) as caught:
        system.ask(text, image=scene())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_rounds_share_the_picture_and_number_artifacts_through_the_session(system: System) -> None:
    session = system.session()
    first = session.ask("Find them.", image=scene())
    second = session.ask("Once more.")
    assert second.image is not None
    assert first.image is not None
    assert second.image.id == first.image.id
    ids = [artifact.origin.id for turn in session.turns for artifact in turn.artifacts]
    assert ids == ["boxes-1", "masks-1", "boxes-2", "masks-2"]
    assert [turn.round for turn in session.turns] == [1, 2]
    assert {a.origin.round for a in second.artifacts} == {2}
    assert {a.origin.source for a in second.artifacts} == {first.image.id}


class Listening:
    """An engine that notes what it is asked before the real one answers."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.decoders = engine.decoders
        self.requests: list[Any] = []
        self.calls: list[Call] = []

    def stream(self, requests: Sequence[Any]) -> Any:
        self.requests += requests
        return self.engine.stream(requests)

    def submit(self, decoder: str, calls: Sequence[Call]) -> Any:
        self.calls += calls
        return self.engine.submit(decoder, calls)

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def heard(system: System) -> Listening:
    system.engine = Listening(system.engine)
    return system.engine


def test_the_router_reads_earlier_rounds_and_each_picture_once(system: System, heard: Listening) -> None:
    picture, other = scene(), scene(seed=9)
    session = system.session()
    first = session.ask("Find them.", image=picture)
    session.ask("The largest of them.", image=picture.copy())
    session.ask("And here?", image=other)
    conversation = heard.requests[-1].conversation
    assert [message.role for message in conversation] == ["user", "assistant"] * 2 + ["user"]
    assert [len(message.images) for message in conversation] == [1, 0, 0, 0, 1]
    assert conversation[1].text == first.raw
    assert "<det>red circle</det>[DET]" in first.raw


def test_refs_reach_the_decoder(system: System, heard: Listening) -> None:
    session = system.session()
    first = session.ask("Find them.", image=scene())
    session.ask("The one on the left.", refs=[first.boxes])
    assert [call.inputs for call in heard.calls[-2:]] == [(first.boxes,)] * 2
    assert all(call.inputs == () for call in heard.calls[:-2])


def test_refs_of_another_picture_are_refused(system: System) -> None:
    session = system.session()
    boxes = session.ask("Find them.", image=scene()).boxes
    cases: list[tuple[Artifact, Any, str]] = [
        (boxes, scene(seed=1), "another picture"),  # same size, other content
        (replace(boxes, origin=Origin()), scene(20, 20), "another picture"),
        (Text(text="hello"), None, "boxes, masks or keypoints"),
    ]
    for ref, image, words in cases:
        with pytest.raises(InputError, match=words):
            session.ask("Which?", image=image, refs=[ref])
    with pytest.raises(InputError, match="none yet"):
        system.session().ask("Which?", refs=[boxes])
    assert len(session.turns) == 1


def test_refs_without_an_origin_are_taken_by_size(system: System) -> None:
    session = system.session()
    boxes = replace(session.ask("Find them.", image=scene()).boxes, origin=Origin())
    assert session.ask("Which?", refs=[boxes]).failures == ()


def test_a_question_that_fails_leaves_the_session_as_it_was(system: System) -> None:
    session = system.session()
    session.ask("Find them.", image=scene())
    for arguments in (
        {"text": ""},
        {"text": "Look.", "image": "missing.png"},
        {"text": "Look.", "prompts": [Point(500, 5)]},
        {"text": "Look.", "threshold": 1.5},
        {"text": "Look.", "deadline": 0},
        {"text": "Look.", "max_new_tokens": 0},
    ):
        with pytest.raises(InputError):
            session.ask(**arguments)
    assert len(session.turns) == 1
    assert session.ask("Again.").boxes.origin.id == "boxes-2"


@pytest.mark.parametrize(
    "prompt",
    [
        Point(60, 10),
        Point(-1, 10),
        Point(float("nan"), 3),
        Box(70, 0, 90, 20),
        Box(20, 5, 10, 9),
        Scribble(()),
        Mask(np.zeros((40, 60), np.bool_)),
        Mask(np.ones((60, 40), np.bool_)),
    ],
)
def test_a_prompt_outside_the_picture_is_refused(system: System, prompt: Any) -> None:
    with pytest.raises(InputError) as caught:
        system.ask("What is region1?", image=scene(), prompts=[prompt])
    assert "\n" not in str(caught.value)


def test_prompts_inside_the_picture_or_over_its_edge_are_taken(system: System) -> None:
    prompts = [Point(3, 4), Box(-5, 10, 20, 100), Scribble(((1, 1), (30, 30))), Mask(scene()[..., 0] > 99)]
    assert system.ask("What are region1 and region4?", image=scene(), prompts=prompts).error == ""
    with pytest.raises(InputError, match="need a picture"):
        system.ask("What is region1?", prompts=[Point(3, 4)])


def test_a_decoder_that_fails_does_not_take_the_reply_with_it(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    (decoder,) = model.decoders
    prepare = type(decoder).prepare

    def failing(self: Any, calls: Sequence[Call], targets: Any = None) -> Any:
        if any(call.token.text == "[SEG]" for call in calls):
            raise RuntimeError("no masks today")
        return prepare(self, calls, targets)

    monkeypatch.setattr(type(decoder), "prepare", failing)
    with saying(model, "A <det>cat</det>[SEG] and a <det>dog</det>[DET].") as system:
        session = system.session()
        turn = session.ask("Find the dog and outline the cat.", image=scene())
        assert turn.first(Boxes).names == ("dog",)
        assert [(f.call_id, f.error) for f in turn.failures] == [("grounding_dino.0", "no masks today")]
        assert session.turns == (turn,)


def test_a_slow_decoder_times_out_and_the_words_stay(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (decoder,) = model.decoders
    go = threading.Event()

    def slow(self: Any, calls: Sequence[Call], targets: Any = None) -> Any:
        go.wait(60)
        raise RuntimeError("too late")

    monkeypatch.setattr(type(decoder), "prepare", slow)
    with saying(model, "A <det>dog</det>[DET].") as system:
        try:
            turn = system.ask("Find the dog.", image=scene(), deadline=3)
        finally:
            go.set()
    assert turn.text == "A dog."
    assert [(failure.call_id, failure.kind) for failure in turn.failures] == [("grounding_dino.0", "timeout")]


def test_a_router_that_never_ends_is_stopped_at_the_deadline(model: Model) -> None:
    with saying(model, "on and on " * 30) as system:
        turn = system.ask("Go.", image=scene(), deadline=1e-3)
    assert [(failure.call_id, failure.kind) for failure in turn.failures] == [("router", "timeout")]


def test_the_threshold_is_the_least_score(system: System) -> None:
    everything = system.ask("Find.", image=scene(), threshold=0.0).boxes
    middle = float(np.median(everything.scores))
    some = system.ask("Find.", image=scene(), threshold=middle).boxes
    assert 0 < len(some) <= len(everything)
    assert (some.scores >= middle).all()


def test_coordinates_are_those_of_the_upright_picture(system: System, tmp_path: Path) -> None:
    pixels = scene(30, 50)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    turned = system.ask("Find.", image=path)
    upright = system.ask("Find.", image=np.rot90(pixels, -1))
    assert turned.boxes.size == (50, 30)
    assert equal(turned.boxes, upright.boxes)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 60), (10, 20_000)])
def test_pictures_of_odd_shapes_are_answered(system: System, height: int, width: int) -> None:
    turn = system.ask("Find.", image=scene(height, width))
    assert turn.failures == ()
    assert turn.masks.masks.shape[1:] == (height, width)
    for boxes in (turn.boxes.xyxy, turn.masks.xyxy):
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"threshold": "high"}, "the threshold is a score in 0..1, got 'high'"),
        ({"deadline": "1"}, "the deadline is a number of seconds above 0, got '1'"),
        ({"max_new_tokens": "5"}, "max_new_tokens must be at least 1, got '5'"),
        ({"seed": "x"}, "the seed must be a whole number"),
        ({"seed": 2**64}, "of at most 64 bits"),
        ({"options": 5}, "options are given by decoder"),
        ({"prompts": Point(1, 2)}, "prompts are a list of Point, Box, Scribble and Mask, got Point alone"),
        ({"prompts": [5]}, "got int in it"),
        ({"prompts": [Mask("x")]}, "a mask prompt holds an array of booleans, got str"),  # type: ignore[arg-type]
        ({"examples": 5}, "examples are a list of pairs"),
        ({"examples": [5]}, "example 1 is a pair of a picture and a mask, got int"),
    ],
)
def test_what_is_of_another_type_is_one_clear_line(system: System, given: dict[str, Any], said: str) -> None:
    for ask in (system.ask, system.session().ask):
        with pytest.raises(InputError, match=said):
            ask("Find them.", image=scene(), **given)


def test_a_result_in_place_of_a_list_of_results_is_told(system: System) -> None:
    session = system.session()
    first = session.ask("Find them.", image=scene())
    with pytest.raises(InputError, match=r"such as \[turn.boxes\], got Boxes"):
        session.ask("Outline them.", refs=first.boxes)


@pytest.mark.parametrize("at", ["1", 1.0, True, -1, 2])
def test_a_round_that_cannot_be_is_no_place_to_fork(system: System, at: Any) -> None:
    session = system.session()
    session.ask("Find them.", image=scene())
    with pytest.raises(InputError, match="has 1 rounds, it cannot be forked at"):
        session.fork(at)


def test_an_instruction_that_is_no_text_is_one_line(system: System) -> None:
    with pytest.raises(InputError, match="an instruction is a string or a list of them, got int"):
        system.ask(5, image=[scene()])  # type: ignore[call-overload]
