"""The service over HTTP, asked through its application by a client that needs no network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from superlink.agents import http_service
from superlink.agents.asking import failed
from superlink.agents.http_service import application
from superlink.agents.model_folder import Model
from superlink.agents.session_store import SessionStore
from superlink.agents.system import System
from superlink.agents.turn import Turn
from superlink.router.errors import LostError
from tests.agents.test_saved_session import EDIT, FIND
from tests.agents.tiny_family import scripted
from tests.agents.tiny_model import scene


@pytest.fixture
def client(system: System, store: SessionStore) -> Iterator[TestClient]:
    with TestClient(application(system, store), raise_server_exceptions=False) as client:
        yield client


def packed(pixels: Any = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene() if pixels is None else pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(text: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def said(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("timings", "image")}


def test_a_picture_sent_as_it_is_and_one_in_json_are_answered_as_in_python(
    client: TestClient, system: System
) -> None:
    truth = system.ask("Find them.", image=scene(), threshold=0.0).to_json()
    sent = client.post("/ask", params={"text": "Find them.", "threshold": 0}, content=packed())
    question = {"text": "Find them.", "threshold": 0, "image": base64.b64encode(packed()).decode()}
    in_json = client.post("/ask", json=question)
    assert sent.status_code == in_json.status_code == 200
    assert said(sent.json()) == said(in_json.json()) == said(json.loads(json.dumps(truth)))
    assert [one["type"] for one in truth["artifacts"]] == ["boxes", "masks"]


def test_clicks_and_boxes_are_regions_in_both_ways_of_asking(client: TestClient) -> None:
    params = {"text": "Outline region1.", "point": "8,9", "box": "1,2,20,30"}
    sent = client.post("/ask", params=params, content=packed())
    marks = {"points": [[8, 9]], "boxes": [[1, 2, 20, 30]]}
    image = base64.b64encode(packed()).decode()
    in_json = client.post("/ask", json={"text": "Outline region1.", "image": image, **marks})
    assert sent.status_code == 200
    assert said(sent.json()) == said(in_json.json())
    outside = client.post("/ask", params={"text": "Outline it.", "point": "999,9"}, content=packed())
    assert outside.status_code == 400
    assert "999" in outside.json()["error"]


def test_what_was_found_is_drawn_where_that_is_wanted(client: TestClient, system: System) -> None:
    params = {"text": "Find them.", "threshold": 0}
    assert "drawn" not in client.post("/ask", params=params, content=packed()).json()
    answer = client.post("/ask", params={**params, "draw": "true"}, content=packed()).json()
    truth = system.ask("Find them.", image=scene(), threshold=0.0).draw()
    assert np.array_equal(pixels_of(answer["drawn"]), truth.pixels)


def test_a_session_goes_on_over_questions_and_its_made_pictures_come_along(
    family: Model, store: SessionStore
) -> None:
    system, _ = scripted(family, FIND, EDIT, FIND)
    client = TestClient(application(system, store))
    first = client.post("/ask", params={"text": "Find them.", "session": "my talk"}, content=packed()).json()
    ref = first["artifacts"][0]["id"]
    asked = {"text": "Make it green.", "session": "my talk", "refs": [ref], "steps": 1}
    second = client.post("/ask", json=asked).json()
    assert [first["round"], second["round"]] == [1, 2]
    (made,) = [one for one in second["artifacts"] if one["type"] == "picture"]
    assert list(pixels_of(made["png"]).shape[:2]) == made["size"]
    assert np.array_equal(pixels_of(made["png"]), store.read("my talk").turns[1].picture.pixels)
    assert [one["name"] for one in client.get("/sessions").json()["sessions"]] == ["my talk"]
    rounds = client.get("/sessions/my talk").json()["rounds"]
    assert [one["asked"] for one in rounds] == ["Find them.", "Make it green."]
    assert client.delete("/sessions/my talk").json() == {"deleted": "my talk"}
    gone = client.get("/sessions/my talk")
    assert (gone.status_code, gone.json()["error"][:27]) == (404, "there is no session 'my tal")


def test_questions_of_one_session_at_once_are_rounds_one_after_the_other(
    family: Model, store: SessionStore
) -> None:
    system, _ = scripted(family, *[FIND] * 6)
    client = TestClient(application(system, store))
    params = {"text": "Find them.", "session": "talk"}
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client.post, "/ask", params=params, content=packed()) for _ in range(6)]
    assert sorted(one.result().json()["round"] for one in asked) == [1, 2, 3, 4, 5, 6]
    assert len(store.read("talk").turns) == 6


@pytest.mark.parametrize(
    ("params", "content", "told"),
    [
        ({}, b"", "text: Field required; fields are text, image"),
        ({"text": " "}, b"", "the text is empty"),
        ({"text": "Find.", "colour": "red"}, b"", "colour: Extra inputs are not permitted"),
        ({"text": "Find.", "steps": "many"}, b"", "steps: Input should be a valid integer"),
        ({"text": "Find.", "threshold": "2"}, b"", "threshold"),
        ({"text": "Find.", "point": "8"}, packed(), "points.0"),
        ({"text": "Find.", "refs": "boxes-1"}, b"", "refs"),
        ({"text": "Find.", "ref": "boxes-1"}, b"", "refs are results of a session"),
        ({"text": "Find."}, b"no picture", "the picture given as bytes"),
        ({"text": "Find.", "image": "scene.png"}, b"", "the picture of a question in the address"),
        ({"text": "Find.", "session": "two\nlines"}, b"", "a session's name is a line"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_status_400(
    client: TestClient, params: dict[str, str], content: bytes, told: str
) -> None:
    answer = client.post("/ask", params=params, content=content)
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_questions_that_are_no_json_or_too_long_are_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {"content-type": "application/json; charset=utf-8"}
    assert "no JSON" in client.post("/ask", content=b"{", headers=head).json()["error"]
    assert "the question: " in client.post("/ask", content=b"[]", headers=head).json()["error"]
    broken = client.post("/ask", json={"text": "Find.", "image": "?"})
    assert (broken.status_code, broken.json()["error"][:29]) == (400, "image is not the base64 of a ")
    monkeypatch.setattr(http_service, "MAX_BYTES", 10)
    long = client.post("/ask", params={"text": "Find."}, content=packed())
    assert (long.status_code, long.json()["error"]) == (
        413,
        "a question may have 10 bytes; send a smaller picture",
    )


def test_a_question_that_nobody_can_answer_says_why_and_whose_fault_it_is(
    client: TestClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> Turn:
        raise LostError("the engine is closed")

    def broken(*_: object, **__: object) -> Turn:
        raise ZeroDivisionError("by\nzero")

    told = "the engine is closed"
    cases = ((lost, 503, told), (lambda *_, **__: failed(None, told), 500, told))
    for ask, code, reason in (*cases, (broken, 500, "ZeroDivisionError: by zero")):
        monkeypatch.setattr(system, "ask", ask)
        answer = client.post("/ask", params={"text": "Find them."}, content=packed())
        assert (answer.status_code, answer.json()) == (code, answer.json() | {"error": reason})


def test_it_tells_what_runs_and_other_addresses_are_unknown(client: TestClient) -> None:
    about = client.get("/").json()
    assert about["decoders"]["grounding_dino"] == ["[DET]", "[GRD]", "[SEG]"]
    assert client.get("/status").json()["workers"][0]["name"] == "router"
    assert client.get("/ask").status_code == 405
    assert client.get("/elsewhere").json() == {"error": "Not Found"}
