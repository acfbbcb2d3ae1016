"""`superlink serve` as a process of its own, on the loopback address."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from superlink.agents.model_folder import Model, save_model
from tests.superlink.conftest import save_scene


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, model)
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "superlink", "serve", *arguments]


def finished(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_answers_and_stops_when_told(
    folder: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    store = tmp_path / "talks.db"
    asked = ["--model", str(folder), "--port", "0", "--json", "--store", str(store)]
    process = subprocess.Popen(command(*asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        assert place["model"] == str(folder)
        query = urlencode({"text": "Find.", "max_new_tokens": 8, "session": "talk"})
        picture = save_scene(tmp_path / "scene.png").read_bytes()
        with urlopen(f"{place['url']}/ask?{query}", data=picture, timeout=100) as answer:
            told = json.load(answer)
        assert (told["session"], told["round"]) == ("talk", 1)
        assert {"text", "failures", "artifacts", "timings"} <= told.keys()
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{place['url']}/ask?text=Find.", data=b"no picture", timeout=100)
        assert refused.value.code == 400
        refused.value.close()
    finally:
        process.send_signal(stop)
        out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err) == (0, "", "")
    assert store.exists()


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = finished("--port", str(port), "--model", "tiny")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"superlink: error: cannot serve on port {port} of 127.0.0.1: ")


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    result = finished("--port", "0", "--model", str(tmp_path / "none"))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: ")
