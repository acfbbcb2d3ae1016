"""The Ray runtime of this process: attached to where it runs already, else started here.

Nothing is sent anywhere, nothing is written to the user's home, and closing ends only what was
started here: a cluster that was joined by its address goes on.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported

import ray

from superlink.router.errors import InputError

_AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# Sockets live below the folder, and their paths may have 107 bytes in all.
_LONGEST_FOLDER = 40
_PATIENCE = 10.0  # seconds for a cluster to take a connection


class Runtime:
    """A hold on the runtime; what was started here ends with the last one."""

    def __init__(self, address: str | None = None, *, num_cpus: float = 0.0) -> None:
        """Join the cluster at `address`; without one, what this process is connected to, else start one.

        Args:
            num_cpus: that a new runtime has at least.

        Raises:
            InputError: no cluster there, or the process is connected to another one.
        """
        _connection.enter(address, num_cpus)
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            _connection.leave()


class _Connection:
    """That of this process; Ray has one for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._ours = False  # connected here, not by the program around us
        self._folder: str | None = None  # of a runtime that was started here
        self._token = ""  # that was put into the environment here

    def enter(self, address: str | None, num_cpus: float) -> None:
        with self._lock:
            if not ray.is_initialized():
                self._connect(address, num_cpus)
                self._users, self._ours = 0, True
            elif address not in (None, "auto", connected := ray.get_runtime_context().gcs_address):
                raise InputError(
                    f"this process is connected to Ray at {connected} already, which is not {address!r}; "
                    f"leave the address out, or close what uses it first"
                )
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._ours:
                ray.shutdown()
                self._ours = False
                self._forget()

    def _connect(self, address: str | None, num_cpus: float) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            if not set(_AUTH) & os.environ.keys():
                # Ray guards its ports with a token, and would keep one in the user's home.
                self._token = os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            self._folder = _short_folder()
            options["num_cpus"] = max(os.cpu_count() or 1, math.ceil(num_cpus))
            options["include_dashboard"] = False
            options["_temp_dir"] = self._folder
        else:
            _must_listen(address)
            options["address"] = address
        try:
            with _own_signals():
                ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            self._forget()
            if address is None:
                raise
            reason = " ".join(str(error).split())
            raise InputError(
                f"no Ray cluster answers at {address!r}: {reason}; start one with `ray start --head`"
            ) from error

    def _forget(self) -> None:
        if self._token and os.environ.get("RAY_AUTH_TOKEN") == self._token:
            del os.environ["RAY_AUTH_TOKEN"]
        self._token = ""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


_connection = _Connection()


def _must_listen(address: str) -> None:
    """Ray itself tries for minutes; raises InputError where the address names a port and nobody is there."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        place = parts.hostname, parts.port
        if place[0] and place[1]:
            socket.create_connection((place[0], place[1]), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r}: {error}; start one with `ray start --head`"
        ) from error


def _short_folder() -> str:
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="superlink-", dir=base if len(base) <= _LONGEST_FOLDER else "/tmp")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM over; a program that embeds a system keeps its own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
