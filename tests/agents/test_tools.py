"""Tools on the embedded model and a drawn picture, and on the whole tiny family."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from superlink.agents.engine import Engine
from superlink.agents.model_folder import Model
from superlink.agents.system import System
from superlink.agents.tools.budget import Budget, BudgetError, Meter, Spent
from superlink.agents.tools.specs import SPECS
from superlink.agents.tools.toolbox import Toolbox
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture
from superlink.router.errors import InputError, LostError
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import scene
from tests.agents.tiny_scene import LEFT, RIGHT, drawn, tiny


def called(toolbox: Toolbox, name: str, arguments: dict[str, Any]) -> ToolMessage:
    """As an agent calls a tool."""
    call = {"type": "tool_call", "id": "call-1", "name": name, "args": arguments}
    message = toolbox.tool(name).invoke(call)
    assert isinstance(message, ToolMessage)
    return message


def test_boxes_come_as_text_for_the_model_and_as_a_turn_for_the_program() -> None:
    message = called(Toolbox(tiny(), pictures=[drawn()]), "detect", {"phrases": ["red circle", "star"]})
    assert isinstance(message.artifact, Turn)
    boxes = message.artifact.boxes
    assert boxes.origin.id == "boxes-1"
    by_place = boxes.xyxy[np.argsort(boxes.xyxy[:, 0])]
    np.testing.assert_allclose(by_place, [LEFT, RIGHT], atol=6)
    first, *rows = str(message.content).splitlines()
    assert first.startswith("boxes-1: 2 x red circle, 0 x star on picture-1 (240 x 180 pixels)")
    for row, line in enumerate(rows):
        numbers = [float(word) for word in line.partition(": ")[2].split()]
        assert line.startswith(f"[{row}] red circle")
        np.testing.assert_allclose(numbers, boxes.xyxy[row], atol=0.051)


def test_an_item_of_an_earlier_result_is_what_the_next_tool_keeps_to() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    boxes = called(toolbox, "detect", {"phrases": "red circle"}).artifact.boxes
    left = int(boxes.xyxy[:, 0].argmin())
    message = called(toolbox, "segment", {"refs": [f"boxes-1[{left}]"]})
    masks = message.artifact.masks
    assert masks.names == ("red circle",)
    assert len(masks) == 1
    np.testing.assert_allclose(masks.xyxy[0], LEFT, atol=6)
    # A circle of diameter 60.
    assert 0.9 < masks.masks.sum() / (np.pi * 30**2) < 1.1
    assert f"area {masks.masks[0].sum():,}" in message.content
    assert toolbox.names == ("picture-1", "boxes-1", "masks-1")
    assert called(toolbox, "count", {"of": "masks-1"}).content == "1 x red circle in masks-1"


def test_things_are_counted_by_finding_them() -> None:
    message = called(Toolbox(tiny(), pictures=[drawn()]), "count", {"phrases": ["red circle", "green star"]})
    assert message.content == "2 x red circle, 0 x green star on picture-1; they are boxes-1"


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("segment", {"refs": ["boxes-9"]}, "there is no 'boxes-9'; what is known: picture-1, boxes-1"),
        ("segment", {"refs": ["boxes-1[7]"]}, "'boxes-1' has items 0 to 1, got 'boxes-1[7]'"),
        ("segment", {"refs": ["the boxes"]}, "'the boxes' is no id of an artifact"),
        ("segment", {}, "segment needs `phrases`, or `refs`"),
        ("segment", {"phrases": ["star"], "refs": ["picture-1[0]"]}, "'picture-1' has no items"),
        ("detect", {"phrases": ["star"], "picture": "picture-2"}, "the pictures are: picture-1"),
        ("detect", {"phrases": ["star"], "picture": "boxes-1"}, "'boxes-1' is an artifact, not a picture"),
        ("detect", {"phrases": []}, "`phrases`: List should have at least 1 item"),
        ("detect", {"phrases": 3}, "`phrases`: Input should be a valid list, got 3"),
        ("detect", {"phrases": ["?!"]}, "`phrases.0`: String should match pattern"),
        ("detect", {"phrases": [" "]}, "`phrases.0`: String should have at least 1 character"),
        ("detect", {}, "`phrases`: Field required"),
        ("detect", {"phrases": ["star"], "confidence": 1}, "`confidence`: Extra inputs are not permitted"),
        ("detect", {"phrases": ["star"], "threshold": 3}, "`threshold`: Input should be less than or equal"),
        ("count", {}, "count needs `phrases` to look for, or `of`"),
        ("count", {"of": "picture-1"}, "'picture-1' has no items to count"),
        ("ask", {"question": "what?", "picture": "../secret.png"}, "is no known picture"),
    ],
)
def test_what_a_model_gets_wrong_is_told_to_it_with_what_it_can_use(
    model: Model, tool: str, arguments: dict[str, Any], said: str
) -> None:
    system, engine = scripted(model, "<det>star</det>[DET]")
    toolbox = Toolbox(system, pictures=[scene()])
    toolbox.run("detect", {"phrases": ["star"]})
    kept = toolbox.artifact("boxes-1")
    assert isinstance(kept, Boxes)
    toolbox._store._artifacts["boxes-1"] = kept.select([0, 1])
    message = called(toolbox, tool, arguments)
    assert message.status == "error"
    assert said in message.content
    assert message.artifact is None
    assert len(engine.requests) == 1  # nothing was asked


def test_there_is_a_tool_for_every_routing_token_that_a_decoder_answers(model: Model, family: Model) -> None:
    assert [tool.name for tool in scripted(family)[0].tools()] == [spec.name for spec in SPECS]
    some = [tool.name for tool in scripted(model)[0].tools()]
    assert some == ["detect", "ground", "segment", "count", "caption", "ask", "instruct"]
    with pytest.raises(
        InputError, match=r"no tool 'pose'; no decoder here answers \[POSE\]; there are detect"
    ):
        scripted(model)[0].as_tool("pose")
    with pytest.raises(InputError, match="no tool 'fly'; there are detect"):
        scripted(model)[0].as_tool("fly")
    with pytest.raises(InputError, match=r"made with Toolbox\(system\), got int"):
        scripted(model)[0].as_tool("detect", toolbox=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="belongs to another system"):
        scripted(model)[0].as_tool("detect", toolbox=Toolbox(tiny()))


def test_tools_made_one_by_one_share_what_they_are_given_to_share(model: Model) -> None:
    system, _ = scripted(model, "<det>star</det>[DET]")
    detect = system.as_tool("detect")
    assert detect.toolbox.add(scene()) == "picture-1"
    detect.invoke({"phrases": ["star"]})
    segment = system.as_tool("segment", toolbox=detect.toolbox)
    assert segment.toolbox.names == ("picture-1", "boxes-1")


@pytest.mark.parametrize(
    ("tool", "arguments", "asked", "reply", "kind", "name"),
    [
        ("detect", {"phrases": ["the star", "heart"]}, "Find every star and every heart.",
         "<det>star</det>[DET]", Boxes, "boxes-1"),
        ("ground", {"phrase": "The largest star."}, "Find the largest star.",
         "<det>largest star</det>[GRD]", Boxes, "boxes-1"),
        ("segment", {"phrases": ["a", "b", "c"]}, "Segment every a, every b and every c.",
         "<det>a</det>[SEG]", Masks, "masks-1"),
        ("pose", {"keypoints": ["nose", "left eye"]}, "Find the nose and the left eye of every person.",
         "<det>person</det>[DET] <det>nose</det>[POSE]", Keypoints, "keypoints-1"),
        ("pose", {}, "Find the keypoints of every person.",
         "<det>person</det>[DET] <det>nose</det>[POSE]", Keypoints, "keypoints-1"),
        ("generate", {"prompt": "a blue star", "seed": 3}, "Paint a blue star.",
         "<det>a blue star</det>[GEN]", Picture, "picture-2"),
        ("edit", {"instruction": "make it green!"}, "Make it green!",
         "<det>make it green</det>[EDIT]", Picture, "picture-2"),
    ],
)  # fmt: skip
def test_every_route_has_a_tool_that_asks_in_plain_words_and_gives_its_artifact(
    family: Model, tool: str, arguments: dict[str, Any], asked: str, reply: str, kind: Any, name: str
) -> None:
    system, engine = scripted(family, reply)
    toolbox = Toolbox(system, pictures=[scene()])
    message = called(toolbox, tool, arguments)
    assert engine.requests[0].conversation[-1].text == asked
    assert [type(one) for one in message.artifact.artifacts] == [kind]
    assert message.artifact.artifacts[0].origin.id == name
    assert message.content.startswith(f"{name}: ")
    assert engine.calls[-1][1].seed == arguments.get("seed", 0)
    assert name in toolbox.names


def test_a_keypoint_that_nobody_looked_for_is_told(family: Model) -> None:
    """The words of an answer decide what is looked for; a caller's own names may not be among them."""
    system, _ = scripted(family, *["<det>person</det>[DET] with <det>nose</det>[POSE]"] * 3)
    toolbox = Toolbox(system, pictures=[scene()])
    other = called(toolbox, "pose", {"keypoints": ["the Nose", "antenna"]})
    assert str(other.content).splitlines()[-1] == "not looked for: antenna; what was: nose"
    assert "not looked for" not in str(called(toolbox, "pose", {"keypoints": ["nose"]}).content)
    assert "not looked for" not in str(called(toolbox, "pose", {}).content)


def test_words_are_the_content_where_words_are_asked_for(family: Model) -> None:
    system, engine = scripted(family, "a star.", "the largest.", "here.")
    toolbox = Toolbox(system, pictures=[scene()])
    assert called(toolbox, "caption", {}).content == "answer: a star."
    assert called(toolbox, "ask", {"question": "which one?"}).content == "answer: the largest."
    assert called(toolbox, "instruct", {"instruction": "say it"}).content == "answer: here."
    asked = [request.conversation[-1].text for request in engine.requests]
    assert asked == ["Describe the picture.", "which one?", "say it"]
    # A plain string is what the tool is mainly about.
    system.engine.replies.append("yes.")  # type: ignore[attr-defined]
    assert toolbox.tool("ask").invoke("is there a star?") == "answer: yes."
    assert engine.requests[-1].conversation[-1].text == "is there a star?"


def test_a_reply_that_went_another_way_is_told_as_it_is(family: Model) -> None:
    system, _ = scripted(family, "none of them.", "<det>star</det>[DET]")
    toolbox = Toolbox(system, pictures=[scene()])
    assert called(toolbox, "segment", {"phrases": ["star"]}).content == (
        "no masks came back; the system answered in words\nanswer: none of them."
    )
    content = called(toolbox, "segment", {"phrases": ["star"]}).content
    assert content.startswith("boxes-1: ")
    assert "no masks came back" in content


def test_a_picture_that_was_made_is_what_the_next_tool_looks_at(family: Model) -> None:
    system, engine = scripted(family, "<det>star</det>[GEN]", "<det>star</det>[DET]", "<det>star</det>[DET]")
    toolbox = Toolbox(system, pictures=[scene()])
    made = called(toolbox, "generate", {"prompt": "a star"}).artifact.picture
    assert called(toolbox, "detect", {"phrases": ["star"]}).artifact.boxes.size == made.pixels.shape[:2]
    assert engine.calls[-1][1].image is made.pixels
    earlier = called(toolbox, "detect", {"phrases": ["star"], "picture": "picture-1"}).artifact.boxes
    assert earlier.size == scene().shape[:2]


def test_results_lead_to_their_own_picture(model: Model) -> None:
    system, engine = scripted(model, *["<det>star</det>[DET]"] * 2)
    toolbox = Toolbox(system, pictures=[scene(seed=1), scene(50, 70, seed=2)])
    toolbox.run("detect", {"phrases": ["star"], "picture": "picture-1"})
    toolbox.run("detect", {"phrases": ["star"], "refs": ["boxes-1"]})
    np.testing.assert_array_equal(engine.calls[-1][1].image, scene(seed=1))
    with pytest.raises(InputError, match="is of another picture"):
        toolbox.run("detect", {"phrases": ["star"], "refs": ["boxes-1"], "picture": "picture-2"})


def test_a_picture_added_twice_keeps_its_id(model: Model) -> None:
    toolbox = Toolbox(scripted(model)[0])
    assert [toolbox.add(scene(seed=seed)) for seed in (1, 2, 1)] == ["picture-1", "picture-2", "picture-1"]


def test_without_a_picture_tools_that_look_say_so(model: Model) -> None:
    message = called(Toolbox(scripted(model)[0]), "detect", {"phrases": ["star"]})
    assert (message.status, message.content) == ("error", "detect looks at a picture and there is none yet")


def test_files_are_opened_by_name_only_inside_the_folder_that_was_allowed(
    model: Model, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    drawn().save(tmp_path / "in" / "scene.png")
    drawn().save(tmp_path / "secret.png")
    system, _ = scripted(model, "<det>star</det>[DET]")
    toolbox = Toolbox(system, folder=tmp_path / "in")
    given: dict[str, Any] = {"phrases": ["star"]}
    assert called(toolbox, "detect", {**given, "picture": "scene.png"}).status == "success"
    for name in ("../secret.png", str(tmp_path / "secret.png"), "missing.png"):
        message = called(toolbox, "detect", {**given, "picture": name})
        assert "is no known picture; the pictures are: picture-1" in message.content


class _Broken:
    """An engine whose decoder, or router, fails."""

    def __init__(self, engine: Engine, error: Exception | None = None) -> None:
        self._engine, self._error = engine, error
        self.decoders = engine.decoders

    def stream(self, requests: Any) -> Any:
        if self._error is not None:
            raise self._error
        return self._engine.stream(requests)

    def submit(self, decoder: str, calls: Any) -> Any:
        wide = [
            type(call)(**{name: getattr(call, name) for name in ("id", "links", "seed")}) for call in calls
        ]
        return self._engine.submit(decoder, wide)  # without its picture

    def close(self) -> None: ...


def test_a_failing_decoder_is_told_and_ends_nothing(model: Model) -> None:
    _, engine = scripted(model, "<det>star</det>[DET]")
    message = called(Toolbox(System(_Broken(engine)), pictures=[scene()]), "detect", {"phrases": ["star"]})
    assert message.status == "success"
    assert message.content.startswith(
        "failed: grounding_dino (input): call 'grounding_dino.0' has no picture"
    )
    assert [one.kind for one in message.artifact.failures] == ["input"]


def test_a_lost_engine_is_told_and_ends_nothing(model: Model) -> None:
    _, engine = scripted(model)
    system = System(_Broken(engine, LostError("the router is gone")))
    message = called(Toolbox(system, pictures=[scene()]), "detect", {"phrases": ["star"]})
    assert (message.status, message.content) == ("error", "the router is gone")


def test_the_content_has_no_pixels_and_stays_short(family: Model) -> None:
    replies = ["<det>star</det>[SEG]", "<det>star</det>[GEN]", "<det>star</det>[DET]"]
    toolbox = Toolbox(scripted(family, *replies)[0], pictures=[scene(400, 600)])
    for tool, arguments in (
        ("segment", {"phrases": ["star"]}),
        ("generate", {"prompt": "star"}),
        ("detect", {"phrases": ["star"], "threshold": 0.0}),
    ):
        message = called(toolbox, tool, arguments)
        assert isinstance(message.content, str)
        assert len(message.content) < 1200
        assert max(len(word) for word in message.content.split()) < 40


def test_plain_messages_can_be_written_as_json(model: Model) -> None:
    system, _ = scripted(model, "<det>star</det>[DET]")
    toolbox = Toolbox(system, pictures=[scene()], plain=True)
    message = called(toolbox, "detect", {"phrases": ["star"]})
    assert json.loads(json.dumps(message.artifact))["artifacts"][0]["id"] == "boxes-1"
    assert isinstance(toolbox.artifact("boxes-1"), Boxes)


def test_schemas_are_what_tool_calling_models_take(family: Model) -> None:
    for tool in scripted(family)[0].tools():
        function = convert_to_openai_tool(tool)["function"]
        assert function["name"] == tool.name
        properties = function["parameters"]["properties"]
        assert all(one["description"] for one in properties.values())
        assert {"toolbox", "spec"}.isdisjoint(properties)


def test_tools_work_awaited_and_side_by_side_with_ids_of_their_own() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    detect = toolbox.tool("detect")
    call = {"type": "tool_call", "id": "1", "name": "detect", "args": {"phrases": ["red circle"]}}

    async def both() -> list[ToolMessage]:
        return await asyncio.gather(detect.ainvoke(call), detect.ainvoke(call))

    turns = [message.artifact for message in asyncio.run(both())]
    with ThreadPoolExecutor(2) as pool:
        turns += [message.artifact for message in pool.map(detect.invoke, [call, call])]
    assert sorted(turn.boxes.origin.id for turn in turns) == [f"boxes-{number}" for number in range(1, 5)]
    for turn in turns[1:]:
        np.testing.assert_allclose(turn.boxes.xyxy, turns[0].boxes.xyxy, atol=1e-3)


def test_a_budget_ends_in_a_message_and_what_is_done_stays(model: Model) -> None:
    system, _ = scripted(model, *["<det>star</det>[DET]"] * 2)
    toolbox = Toolbox(system, pictures=[scene()], budget=Budget(calls=2))
    statuses = [called(toolbox, "detect", {"phrases": ["star"]}).status for _ in range(3)]
    assert statuses == ["success", "success", "error"]
    with pytest.raises(BudgetError, match="the budget of 2 calls is used up"):
        toolbox.run("detect", {"phrases": ["star"]})
    assert toolbox.meter.spent.calls == 2
    assert toolbox.meter.spent.pixels == 2 * 40 * 60
    assert toolbox.names == ("picture-1", "boxes-1", "boxes-2")


@given(
    limits=st.tuples(*[st.none() | st.integers(1, 200)] * 3),
    costs=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)), max_size=12),
)
def test_no_call_starts_that_a_budget_does_not_cover(
    limits: tuple[int | None, ...], costs: list[tuple[int, int, int]]
) -> None:
    calls, seconds, pixels = limits
    meter = Meter(Budget(calls=calls, seconds=seconds, pixels=pixels))
    started, took, seen = 0, 0, 0
    for looks, lasts, makes in costs:
        fits = (
            (calls is None or started < calls)
            and (seconds is None or took < seconds)
            and (pixels is None or seen + looks <= pixels)
        )
        if not fits:
            with pytest.raises(BudgetError):
                meter.start(looks)
            continue
        left = meter.start(looks)
        assert left == (None if seconds is None else seconds - took)
        meter.finish(lasts, makes)
        started, took, seen = started + 1, took + lasts, seen + looks + makes
    spent = meter.spent
    assert (spent.calls, spent.seconds, spent.pixels) == (started, took, seen)


def test_a_budget_of_nothing_is_refused() -> None:
    for name in ("calls", "seconds", "pixels"):
        with pytest.raises(InputError, match=f"a budget of {name} is a number above 0"):
            Budget(**{name: 0})


@pytest.mark.slow
def test_the_package_loads_no_langchain_before_a_tool_is_made() -> None:
    code = (
        "import sys, superlink; superlink.System; import superlink.agents.tools.budget;"
        "print(sorted(name for name in sys.modules if name.startswith('langchain')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_a_message_and_not_the_end_of_the_agent(
    tmp_path: Path, name: str
) -> None:
    message = called(Toolbox(tiny(), folder=tmp_path), "detect", {"phrases": ["star"], "picture": name})
    assert message.status == "error"
    assert "is no known picture" in str(message.content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Toolbox(tiny(), pictures="a.png"), "pictures are a list, got str alone"),
        (lambda: Toolbox(tiny(), folder="/no/such/folder"), "there is no folder '/no/such/folder'"),
        (lambda: Toolbox(tiny(), budget=5), r"a budget is Budget\(calls=..., ...\), got int"),
        (lambda: Budget(calls="x"), "a budget of calls is a number above 0 or None, got 'x'"),
        (lambda: Budget(pixels=True), "a budget of pixels is a number above 0 or None, got True"),
        (lambda: Toolbox(tiny()).run("detect", 5), "arguments are given by their names, got int"),
        (lambda: Toolbox(tiny()).artifact(5), "there is no '5'; what is known: nothing yet"),
        (lambda: Toolbox(tiny()).picture(5), "5 is no known picture"),
    ],
)
def test_what_a_toolbox_cannot_take_is_one_clear_line(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_a_thing_that_is_named_twice_is_counted_once() -> None:
    toolbox = Toolbox(tiny(), pictures=[drawn()])
    for phrases in (
        ["red circle", "red circle"],
        ["red circle", "the red circle"],
        ["red circle", "Red circle"],
    ):
        assert called(toolbox, "count", {"phrases": phrases}).content.startswith(
            "2 x red circle on picture-1;"
        )


@pytest.mark.parametrize("seconds", [1e10, 1e300, 10**400], ids=["float", "huge", "whole"])
def test_a_time_beyond_every_clock_is_a_time_without_an_end(model: Model, seconds: float) -> None:
    system, _ = scripted(model, *["<det>star</det>[DET]"] * 3)
    pictures, given = [scene()], {"phrases": ["star"]}
    for toolbox in (
        Toolbox(system, pictures=pictures, deadline=seconds),
        Toolbox(system, pictures=pictures, budget=Budget(seconds=seconds)),
    ):
        message = called(toolbox, "detect", given)
        assert (message.status, message.artifact.failures) == ("success", ())
    turn = system.ask("Find every star.", image=scene(), deadline=seconds)
    assert (len(turn.artifacts), turn.failures) == (1, ())


def test_a_call_that_a_second_budget_refuses_is_on_no_bill(model: Model) -> None:
    system, engine = scripted(model, "<det>star</det>[DET]")
    toolbox = Toolbox(system, pictures=[scene()], budget=Budget(calls=1))
    small = Meter(Budget(pixels=10))
    for _ in range(2):
        with pytest.raises(BudgetError, match="does not fit into what is left of a budget of 10"):
            toolbox.run("detect", {"phrases": ["star"]}, meter=small)
    assert engine.requests == []
    assert (toolbox.meter.spent, small.spent) == (Spent(), Spent())
    assert toolbox.run("detect", {"phrases": ["star"]}).spent.calls == 1


def test_a_file_that_is_only_looked_at_is_not_what_the_next_tool_is_about(
    model: Model, tmp_path: Path
) -> None:
    drawn().save(tmp_path / "site.png")
    system, _ = scripted(model)
    toolbox = Toolbox(system, pictures=[scene()], folder=tmp_path)
    assert toolbox.picture("site.png").size == (180, 240)
    assert toolbox.picture().size == scene().shape[:2]
    assert toolbox.pictures == ("picture-1",)
