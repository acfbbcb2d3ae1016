"""What `superlink serve` does: load a model and answer questions over HTTP until it is stopped."""

from __future__ import annotations

import json as json_format
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from superlink.agents.session_store import SessionStore
from superlink.ask_command import open_system
from superlink.router.errors import InputError

if TYPE_CHECKING:
    from superlink.agents.engine import Startable

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PATIENCE = 10  # seconds that answers under way are waited for


def run(*, model: str, engine: str | Startable, host: str, port: int, store: Path | None, json: bool) -> None:
    """Serve until Ctrl-C or SIGTERM; answers under way are finished.

    Args:
        port: 0 = any that is free.
        store: the file of sessions; by default in the user's data folder.
        json: tell where it serves as one JSON object instead of in words.

    Raises:
        SuperlinkError: the model or the address cannot be used.
    """
    bound = _bound(host, port)
    kept = SessionStore(store)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with bound, open_system(model, engine) as system:
            from superlink.agents.http_service import application

            config = uvicorn.Config(
                application(system, kept),
                log_level="warning",
                timeout_graceful_shutdown=_PATIENCE,
                lifespan="off",
            )
            _Server(config, told=_told(bound, host, model, json=json)).run(sockets=[bound])
    except KeyboardInterrupt:  # how it is meant to end
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    """Says where it listens as soon as it does."""

    def __init__(self, config: uvicorn.Config, *, told: str) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(self._told + "\n")
        sys.stdout.flush()


def _bound(host: str, port: int) -> socket.socket:
    """A socket of that address which nobody hears yet: a wrong one is known before a model is loaded."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(kind, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:
        bound.close()
        raise InputError(f"cannot serve on port {port} of {host}: {error}; choose others") from error
    return bound


def _told(bound: socket.socket, host: str, model: str, *, json: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{bound.getsockname()[1]}"
    if host not in _LOOPBACK:
        sys.stderr.write(f"superlink: {host} can be reached by others; nobody is asked who they are\n")
    if json:
        return json_format.dumps({"url": url, "model": model})
    return (
        f"serving {model} on {url}; Ctrl-C stops it\n"
        f"  curl --data-binary @scene.png '{url}/ask?text=Find+every+star'"
    )


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
