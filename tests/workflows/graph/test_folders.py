"""Folders of pictures: nothing is done twice, nothing is lost, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from superlink import Boxes, Image, InputError, Workflow, WorkflowError, steps
from superlink.workflows.graph.folders import pictures_in, run_folder
from tests.workflows.graph.toys import brightness, note


@steps.step
def corner(image: Image) -> Boxes:
    """A box as large as the first pixel says."""
    note(image.name)
    side = 1 + int(image.pixels[0, 0, 0]) % 8
    return Boxes(
        xyxy=np.asarray([[0, 0, side, side]], np.float32),
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=("corner",),
        size=image.size,
    )


def workflow() -> Workflow:
    wf = Workflow("corners")
    photo = wf.input("photo", Image)
    found = corner(photo)
    wf.output("corner", found)
    wf.output("count", steps.count()(found))
    wf.output("bright", brightness(photo))
    wf.output("parts", brightness(steps.crop()(photo, found)))
    return wf


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        place = folder / ("more" if number % 3 == 0 else "") / f"{number:02}.png"
        Pillow.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(place)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that a run leaves, but the notes of its writer."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_pictures_are_found_below_the_folder_in_order(photos: Path) -> None:
    (photos / "notes.txt").write_text("no picture")
    (photos / ".hidden.png").write_bytes((photos / "01.png").read_bytes())
    assert pictures_in(photos)[:2] == ["01.png", "02.png"]
    assert pictures_in(photos)[-1] == "more/09.png"
    assert len(pictures_in(photos)) == 12
    with pytest.raises(InputError, match="no folder"):
        pictures_in(photos / "nowhere")


def test_a_link_to_nothing_fails_and_is_told(photos: Path, tmp_path: Path) -> None:
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    summary = run_folder(workflow(), photos, tmp_path / "out", format="jsonl")
    ((name, error),) = summary.failed
    assert (summary.total, name) == (13, "gone.png")
    assert "does not exist" in error


def test_a_folder_below_that_cannot_be_listed_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"more' may not be read: Permission denied; allow it"):
        pictures_in(photos)


def test_results_of_every_kind_are_written(photos: Path, tmp_path: Path) -> None:
    summary = run_folder(workflow(), photos, tmp_path / "out", format="jsonl")
    assert (summary.total, summary.skipped, summary.failed, summary.stopped) == (12, 0, (), False)
    lines = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == pictures_in(photos)
    for line in lines:
        pixels = np.asarray(Pillow.open(photos / line["image"]))
        side = 1 + int(pixels[0, 0, 0]) % 8
        assert line["artifacts"][0]["xyxy"] == [[0, 0, side, side]]
        assert line["values"]["count"] == 1
        assert line["values"]["bright"] == pytest.approx(pixels.mean())
        assert line["values"]["parts"] == [pytest.approx(pixels[:side, :side].mean())]


@pytest.mark.parametrize("format", ["coco", "csv", "jsonl", "labelme", "png"])
def test_an_interrupted_run_that_goes_on_leaves_the_same_files(
    photos: Path, tmp_path: Path, calls: list[str], format: str
) -> None:
    run_folder(workflow(), photos, tmp_path / "whole", format=format, max_concurrency=3)
    calls.clear()

    def stop(name: str) -> None:
        seen.append(name)
        if len(seen) == 5:
            raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_folder(workflow(), photos, tmp_path / "two", format=format, advance=stop, max_concurrency=1)
    summary = run_folder(workflow(), photos, tmp_path / "two", format=format, resume=True)
    assert summary.skipped == 5
    assert files_of(tmp_path / "two") == files_of(tmp_path / "whole")
    assert sorted(calls) == sorted(str(photos / name) for name in pictures_in(photos))


def test_unreadable_pictures_are_told_tried_again_and_lose_nothing(photos: Path, tmp_path: Path) -> None:
    good = (photos / "05.png").read_bytes()
    (photos / "05.png").write_bytes(good[:60])
    (photos / "empty.jpg").write_bytes(b"")
    summary = run_folder(workflow(), photos, tmp_path / "out", format="coco")
    assert [name for name, _ in summary.failed] == ["05.png", "empty.jpg"]
    assert "0 bytes" in summary.failed[1][1]
    (photos / "05.png").write_bytes(good)
    again = run_folder(workflow(), photos, tmp_path / "out", format="coco", resume=True)
    assert again.skipped == 11
    assert [name for name, _ in again.failed] == ["empty.jpg"]
    (photos / "empty.jpg").unlink()
    run_folder(workflow(), photos, tmp_path / "whole", format="coco")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_too_many_failures_stop_the_run(photos: Path, tmp_path: Path) -> None:
    for path in photos.glob("*.png"):
        path.write_bytes(b"x")
    summary = run_folder(workflow(), photos, tmp_path / "out", max_failures=2, max_concurrency=1)
    assert summary.stopped
    assert len(summary.failed) == 3


def test_a_folder_of_another_run_is_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_folder(workflow(), photos, out)
    before = files_of(out)
    with pytest.raises(InputError, match="go on with --resume"):
        run_folder(workflow(), photos, out)
    with pytest.raises(InputError, match="its format is not 'coco'"):
        run_folder(workflow(), photos, out, format="coco", resume=True)
    other = workflow()
    other.output("twice", other.graph.outputs[0][1])
    with pytest.raises(InputError, match="its definition is not"):
        run_folder(other, photos, out, resume=True)
    assert files_of(out) == before


def test_a_workflow_that_is_not_about_one_picture_is_refused(photos: Path, tmp_path: Path) -> None:
    wf = Workflow("numbers")
    wf.output("y", wf.input("n", int))
    with pytest.raises(WorkflowError, match="one Image as its only input"):
        run_folder(wf, photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "superlink", "run", *map(str, arguments)]


@pytest.mark.slow
def test_a_killed_command_goes_on_without_doing_a_picture_twice(photos: Path, tmp_path: Path) -> None:
    """The whole command, killed as hard as it gets."""
    (tmp_path / "slowly.py").write_text(
        "import time\n"
        "from superlink import Image, steps\n"
        "@steps.step\n"
        "def mean(image: Image) -> float:\n"
        "    time.sleep(0.15)\n"
        "    with open('seen.txt', 'a') as file:\n"
        "        file.write(image.name + '\\n')\n"
        "    return float(image.pixels.mean())\n"
    )
    (tmp_path / "wf.yaml").write_text(
        "version: 1\nname: means\ninputs: {photo: {type: Image}}\n"
        "steps: {mean: {use: function, function: 'slowly:mean', in: {image: photo}}}\n"
        "outputs: {mean: mean}\n"
    )
    arguments = ("wf.yaml", "--images", photos, "--allow", "slowly", "--jobs", 1, "--format", "csv")
    run: dict[str, Any] = {"cwd": tmp_path, "env": os.environ, "capture_output": True, "text": True}
    child = subprocess.Popen(command(*arguments, "--out", "cut"), cwd=tmp_path, env=os.environ)
    deadline = time.monotonic() + 200
    while not (tmp_path / "seen.txt").exists() or len((tmp_path / "seen.txt").read_text().split()) < 4:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    resumed = subprocess.run(command(*arguments, "--out", "cut", "--resume"), check=True, **run)
    assert "12 of 12 pictures done" in resumed.stdout
    seen = (tmp_path / "seen.txt").read_text().split()
    assert len(set(seen)) == 12
    assert len(seen) <= 13  # the one that was on its way
    subprocess.run(command(*arguments, "--out", "whole"), check=True, **run)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    described = subprocess.run(command("wf.yaml", "--allow", "slowly", "--describe"), check=True, **run)
    assert json.loads(described.stdout)["inputs"][0]["name"] == "photo"
    refused = subprocess.run(command("wf.yaml", "--describe"), check=False, **run)
    assert refused.returncode == 1
    assert "allow 'slowly' if you trust it" in refused.stderr
    assert subprocess.run(command("wf.yaml"), check=False, **run).returncode == 2


def test_a_run_goes_on_when_a_picture_of_the_same_stem_has_come(photos: Path, tmp_path: Path) -> None:
    run_folder(workflow(), photos, tmp_path / "out", format="labelme")
    before = files_of(tmp_path / "out")
    Pillow.open(photos / "01.png").convert("RGB").save(photos / "01.jpg")
    Pillow.open(photos / "01.png").save(photos / "0.png")
    summary = run_folder(workflow(), photos, tmp_path / "out", format="labelme", resume=True)
    assert (summary.total, summary.done, summary.skipped) == (14, 14, 12)
    after = files_of(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    made = {name for name in after.keys() - before.keys() if name.endswith(".json")}
    assert made == {"0.json", "01-2.json"}


def test_results_below_the_pictures_are_not_taken_for_pictures(photos: Path) -> None:
    out = photos / "results"
    totals = [run_folder(workflow(), photos, out, format="labelme", resume=True).total for _ in range(2)]
    assert totals == [12, 12]
    with pytest.raises(InputError, match="holds the pictures themselves"):
        run_folder(workflow(), photos, photos)


def test_another_function_without_a_name_is_another_run(photos: Path, tmp_path: Path) -> None:
    def counting(least: float) -> Workflow:
        wf = Workflow("counting")
        photo = wf.input("photo", Image)
        found = steps.count()(steps.filter(score=least)(corner(photo)))
        wf.output("twice", steps.step(lambda number: number * 2, name="twice")(found))
        return wf

    run_folder(counting(0.1), photos, tmp_path / "out")
    assert run_folder(counting(0.1), photos, tmp_path / "out", resume=True).skipped == 12
    with pytest.raises(InputError, match="its definition is not"):
        run_folder(counting(0.9), photos, tmp_path / "out", resume=True)


def test_an_array_is_a_value_like_any_other(photos: Path, tmp_path: Path) -> None:
    @steps.step
    def thirds(image: Image) -> Any:
        return np.ones(3)

    wf = Workflow("thirds")
    wf.output("y", thirds(wf.input("photo", Image)))
    summary = run_folder(wf, photos, tmp_path / "out")
    assert summary.failed == ()
    line = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert line["values"]["y"] == [1.0, 1.0, 1.0]
