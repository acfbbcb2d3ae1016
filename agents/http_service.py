"""A system over HTTP: questions as JSON or as the bytes of a picture, answers as of `superlink ask --json`.

Questions that arrive while others are answered share forward passes, as those of several threads do. A
session is one of a `SessionStore`, by name, so what is talked about here can be gone on with elsewhere.
Starlette is the server's side of it; `superlink serve` runs it under uvicorn, and so can any ASGI server.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from importlib.metadata import version
from typing import Any
from weakref import WeakValueDictionary

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from superlink.agents.options import shared_options
from superlink.agents.session_store import SessionStore
from superlink.agents.system import System
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Picture
from superlink.router.errors import BusyError, InputError, LostError, SuperlinkError
from superlink.router.messages import Box, ImageArray, Point, Prompt

MAX_BYTES = 64_000_000  # of a question; a picture in base64 takes a third more than its file
_STATUS: dict[type[SuperlinkError], int] = {InputError: 400, BusyError: 503, LostError: 503}
_LISTS = ("point", "box", "ref")  # may stand several times in an address
Pair = tuple[float, float]
Corners = tuple[float, float, float, float]


class Asked(BaseModel):
    """One question. Coordinates are pixels of the upright picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    image: str | None = None  # the bytes of a picture file in base64
    points: tuple[Pair, ...] = ()  # clicks, which the text calls region1, region2, ...
    boxes: tuple[Corners, ...] = ()  # numbered after the clicks
    threshold: float | None = None
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=0)
    image_guidance: float | None = Field(default=None, ge=0)
    width: int | None = None  # of a made picture
    height: int | None = None
    seed: int = 0
    max_new_tokens: int | None = Field(default=None, ge=1)
    deadline: float | None = Field(default=None, gt=0)  # seconds for everything
    session: str | None = None  # name of a talk that this goes on with, or begins
    refs: tuple[str, ...] = ()  # ids of earlier results of the session, such as "boxes-1"
    draw: bool = False  # give a picture with everything drawn on it, too

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return (*(Point(*one) for one in self.points), *(Box(*one) for one in self.boxes))

    @property
    def options(self) -> dict[str, object]:
        """What was given of the options of decoders."""
        names = ("steps", "guidance", "image_guidance", "width", "height")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Service:
    """What the routes of `application` do. Safe to use from many threads."""

    def __init__(self, system: System, store: SessionStore | None = None) -> None:
        self.system = system
        self.store = store or SessionStore()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def answer(self, asked: Asked, image: bytes | None) -> dict[str, Any]:
        """Ask the system, once or in a session.

        Raises:
            SuperlinkError: it cannot be asked that, or is busy or gone.
        """
        said: dict[str, Any] = {
            "image": image,
            "prompts": asked.prompts,
            "options": shared_options(asked.options, self.system.decoders),
            "threshold": asked.threshold,
            "seed": asked.seed,
            "max_new_tokens": asked.max_new_tokens,
            "deadline": asked.deadline,
        }
        if not asked.text.strip():
            raise InputError("the text is empty; say what to do, for example 'Find every star.'")
        if asked.session is None:
            if asked.refs:
                raise InputError("refs are results of a session; name that, too")
            return told(self.system.ask(asked.text, **said), draw=asked.draw)
        with self._turn_of(asked.session):  # its rounds come one after the other
            session = self.system.session(name=asked.session, store=self.store)
            refs = [session.artifact(name) for name in asked.refs]
            turn = session.ask(asked.text, refs=refs, **said)
        return {**told(turn, draw=asked.draw), "session": asked.session, "round": turn.round}

    def _turn_of(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())


def application(system: System, store: SessionStore | None = None) -> Starlette:
    """An ASGI application that asks `system`.

    `POST /ask` takes the fields of `Asked` as JSON, or the bytes of a picture with the other fields in the
    address: `/ask?text=Find+every+star&point=20,30`. `GET /` tells what runs, `GET /status` how fast;
    `/sessions` and `/sessions/NAME` list, show and delete talks. What cannot be answered is
    `{"error": "one line"}` with status 400, 404, 413, 500 or 503; a decoder that failed is one of the
    answer's failures, beside what the others found.

    Args:
        system: stays open; whoever opened it closes it.
        store: of sessions; by default in the user's data folder.
    """
    service = Service(system, store)

    async def about(request: Request) -> Response:
        routes = {one.name: [route.token.text for route in one.routes] for one in system.decoders}
        return JSONResponse({"superlink": version("superlink"), "model": system.name, "decoders": routes})

    async def status(request: Request) -> Response:
        return JSONResponse({"workers": (await run_in_threadpool(system.status)).to_json()})

    async def ask(request: Request) -> Response:
        asked, image = _read(request, await _body(request))
        answer = await run_in_threadpool(service.answer, asked, image)
        return JSONResponse(answer, 500 if "error" in answer else 200)

    async def sessions(request: Request) -> Response:
        found = await run_in_threadpool(service.store.list)
        return JSONResponse({"sessions": [one.to_json() for one in found]})

    async def session(request: Request) -> Response:
        name = request.path_params["name"]
        if not await run_in_threadpool(service.store.__contains__, name):
            raise HTTPException(404, f"there is no session {name!r}; GET /sessions lists them")
        if request.method == "DELETE":
            await run_in_threadpool(service.store.delete, name)
            return JSONResponse({"deleted": name})
        rounds = (await run_in_threadpool(service.store.read, name)).rounds()
        talk = [{"asked": asked[-1].text, **turn.to_json()} for asked, turn in rounds]
        return JSONResponse({"session": name, "rounds": talk})

    return Starlette(
        routes=[
            Route("/", about),
            Route("/status", status),
            Route("/ask", ask, methods=["POST"]),
            Route("/sessions", sessions),
            Route("/sessions/{name:path}", session, methods=["GET", "DELETE"]),
        ],
        exception_handlers={SuperlinkError: _refused, HTTPException: _refused, Exception: _refused},
    )


def told(turn: Turn, *, draw: bool = False) -> dict[str, Any]:
    """A turn as plain data: `Turn.to_json`, and pictures as PNG in base64.

    Args:
        draw: also "drawn", the picture with every result on it, where there is a picture.
    """
    data = turn.to_json()
    for artifact, plain in zip(turn.artifacts, data["artifacts"], strict=True):
        if isinstance(artifact, Picture):
            plain["png"] = _png(artifact.pixels)
    if draw and (turn.image is not None or turn.picture is not None):
        data["drawn"] = _png(turn.draw().pixels)
    return data


def _png(pixels: ImageArray) -> str:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return base64.b64encode(packed.getvalue()).decode()


async def _body(request: Request) -> bytes:
    """All that was sent.

    Raises:
        HTTPException: more than `MAX_BYTES`.
    """
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > MAX_BYTES:
            raise HTTPException(413, f"a question may have {MAX_BYTES} bytes; send a smaller picture")
        parts.append(part)
    return b"".join(parts)


def _read(request: Request, body: bytes) -> tuple[Asked, bytes | None]:
    """The question, and the bytes of its picture.

    Raises:
        InputError: not JSON, or fields that are missing, unknown or of the wrong kind.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _asked(_fields(request)), body or None
    try:
        data = json.loads(body)
    except ValueError as error:
        raise InputError(f"the question is no JSON: {error}") from error
    asked = _asked(data)
    if asked.image is None:
        return asked, None
    try:
        return asked, base64.b64decode(asked.image, validate=True)
    except ValueError as error:
        raise InputError(f"image is not the base64 of a picture file: {error}") from error


def _fields(request: Request) -> dict[str, Any]:
    """The fields of an address."""
    given = request.query_params
    fields: dict[str, Any] = {name: given[name] for name in given if name not in _LISTS}
    for name, field in (("point", "points"), ("box", "boxes")):
        if name in given:
            fields[field] = [text.split(",") for text in given.getlist(name)]
    if "ref" in given:
        fields["refs"] = given.getlist("ref")
    if "image" in fields:
        raise InputError("the picture of a question in the address is what is sent with it, not image=")
    return fields


def _asked(data: object) -> Asked:
    try:
        return Asked.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the question"
        known = ", ".join(Asked.model_fields)
        raise InputError(f"{where}: {first['msg']}; fields are {known}") from error


async def _refused(request: Request, error: Exception) -> Response:
    """One line that says why."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    code = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    kind = "" if isinstance(error, SuperlinkError) else f"{type(error).__name__}: "
    return JSONResponse({"error": kind + " ".join(str(error).split())}, code)
