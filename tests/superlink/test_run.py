"""`superlink run`: a workflow from a file over a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from superlink import run_command
from superlink.agents.model_folder import Model, save_model
from superlink.workflows.graph.folders import Summary
from tests.agents.tiny_model import saying
from tests.superlink.conftest import REPLY, Run, save_scene

WORKFLOW = """
version: 1
name: circles
inputs: {photo: {type: Image}}
steps:
  found: {use: detect, with: {phrases: [red circle]}, in: {image: photo}}
  number: {use: count, in: {items: found}}
outputs: {found: found, number: number}
"""


@pytest.fixture
def folder(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a workflow and three pictures; one cannot be read."""
    monkeypatch.setattr(run_command, "open_system", lambda *_, **__: saying(model, REPLY))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wf.yaml").write_text(WORKFLOW)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        save_scene(tmp_path / f"photos/{name}.png")
    (tmp_path / "photos/c.png").write_text("no picture")
    return tmp_path


def test_pictures_are_run_and_what_failed_is_told(run: Run, folder: Path) -> None:
    result = run("run", "wf.yaml", "--images", "photos", "--out", "out")
    assert result.exit_code == 1  # one picture failed
    assert result.stdout.splitlines()[0] == "2 of 3 pictures done, 1 failed"
    assert result.stderr.startswith("superlink: c.png: step 'photo' failed: ")
    lines = [json.loads(line) for line in (folder / "out/results.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["a.png", "b.png", "c.png"]
    assert lines[0]["artifacts"][0]["id"] == "found"
    assert lines[0]["values"]["number"] == len(lines[0]["artifacts"][0]["scores"])
    assert "not a picture" in lines[2]["error"]
    save_scene(folder / "photos/c.png")
    again = run("run", "wf.yaml", "--images", "photos", "--out", "out", "--resume")
    assert again.exit_code == 0
    assert again.stdout.splitlines()[0] == "3 of 3 pictures done (2 of them earlier), 0 failed"


def test_an_unknown_model_is_told_once_and_no_picture_is_tried(run: Run, folder: Path) -> None:
    result = run("run", "wf.yaml", "--images", "photos", "--out", "out", "-m", "nope")
    assert result.exit_code == 1
    assert result.stderr.startswith("superlink: error: unknown model 'nope'")
    assert not (folder / "out").exists()


def test_json_is_one_object_and_nothing_else(run: Run, folder: Path) -> None:
    arguments = ("run", "wf.yaml", "--images", "photos", "--out", "out", "--json")
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (1, "")
    found = json.loads(result.stdout)
    (failure,) = found.pop("failed")
    assert failure["image"] == "c.png"
    assert "not a picture" in failure["error"]
    files = [str(Path("out/results.jsonl"))]
    assert found == {"total": 3, "done": 2, "skipped": 0, "stopped": False, "files": files}
    save_scene(folder / "photos/c.png")
    again = run(*arguments, "--resume")
    assert again.exit_code == 0
    done = {"total": 3, "done": 3, "skipped": 2, "failed": [], "stopped": False, "files": files}
    assert json.loads(again.stdout) == done
    wrong = run(*arguments[:-1], "--json", "--resume", "--format", "csv")
    assert (wrong.exit_code, wrong.stdout) == (1, "")


def test_too_many_failures_stop_it(run: Run, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"photos/{name}.png").write_text("no picture")
    arguments = ("--images", "photos", "--out", "out", "--max-failures", "0", "--jobs", "1")
    result = run("run", "wf.yaml", *arguments)
    assert result.exit_code == 1
    assert "0 of 3 pictures done, 1 failed; stopped, since more failed than --max-failures" in result.stdout
    again = json.loads(run("run", "wf.yaml", *arguments, "--resume", "--json").stdout)
    assert again["stopped"]
    assert again["done"] == 0


def test_a_description_is_json(run: Run, folder: Path) -> None:
    result = run("run", "wf.yaml", "--describe")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["inputs"] == [{"name": "photo", "type": "Image", "required": True}]
    assert [one["name"] for one in found["outputs"]] == ["found", "number"]
    assert found["schema"]["output"]["properties"]["number"] == {"type": "integer"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.yaml", "--describe"), "cannot be read"),
        (("wf.yaml", "--images", "nowhere", "--out", "out"), "there is no folder 'nowhere'"),
        (("wf.yaml", "--images", "photos", "--out", "out", "--format", "xml"), "no format 'xml'"),
        (("wf.yaml", "--images", "photos", "--out", "wf.yaml"), "wf.yaml"),
    ],
)
def test_errors_are_one_line(run: Run, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run("run", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: ")
    assert said in line
    assert not (folder / "out").exists()


def test_a_cluster_is_handed_what_it_needs(
    run: Run, folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superlink.workflows.graph.ray_data import OnRay

    save_model(folder / "model", model)
    places: list[object] = []

    def run_folder(*_: object, place: object, **__: object) -> Summary:
        places.append(place)
        return Summary(total=1, done=1, skipped=0, failed=(), stopped=False, files=())

    monkeypatch.setattr(run_command, "run_folder", run_folder)
    arguments = ("run", "wf.yaml", "--images", "photos", "--out", "out", "--model", "model")
    cluster = ("--engine", "ray", "--address", "a:1", "--jobs", "3", "--allow", "json")
    assert run(*arguments).exit_code == 0
    assert run(*arguments, *cluster).exit_code == 0
    assert places == [
        None,
        OnRay(model=(folder / "model").resolve(), allow=("json",), address="a:1", pictures=3),
    ]
    wrong = run(*arguments, "--address", "a:1")
    assert (wrong.exit_code, wrong.stderr) == (
        2, "superlink: error: --address is that of a Ray cluster; --engine local has none\n"
    )  # fmt: skip


def test_bad_usage_exits_with_two(run: Run, folder: Path) -> None:
    assert run("run", "wf.yaml").exit_code == 2
    assert run("run").exit_code == 2
    assert run("run", "wf.yaml", "--images", "photos").exit_code == 2
