"""A folder on a Ray cluster gives what a local run gives, through the same records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from superlink import Boxes, Image, InputError, Workflow, WorkflowError, load, steps
from superlink.agents.ray.engine import RayEngine
from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement
from superlink.agents.ray.runtime import Runtime
from superlink.workflows.graph.folders import pictures_in, run_folder
from superlink.workflows.graph.ray_data import OnRay
from tests.agents.tiny_scene import TINY
from tests.workflows.graph.toys import brightness

pytestmark = [
    pytest.mark.ray,
    # Ray Data warns of settings that it makes itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]
ALLOWED = ("tests.workflows.graph.toys",)
PLACE = OnRay(model=TINY, allow=ALLOWED, actors=1, pictures=1)


@pytest.fixture(scope="module")
def runtime() -> Iterator[None]:
    """One runtime for all tests here."""
    held = Runtime(num_cpus=2)
    yield
    held.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Red circles of several sizes, and a file that is no picture."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(9):
        picture = Pillow.new("RGB", (64, 48), "white")
        ImageDraw.Draw(picture).ellipse((8, 8, 24 + number, 24 + number), fill=(220, 30, 30))
        picture.save(folder / ("more" if number % 4 == 0 else "") / f"{number}.png")
    (folder / "bad.png").write_text("no picture")
    return folder


def workflow() -> Workflow:
    wf = Workflow("circles", system=TINY)
    photo = wf.input("photo", Image)
    found = steps.detect("red circle")(photo)
    wf.output("found", found)
    wf.output("number", steps.count()(found))
    wf.output("bright", brightness(photo))
    return wf


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_cluster_goes_on_with_a_local_run_and_gives_the_same(
    runtime: None, photos: Path, tmp_path: Path
) -> None:
    whole = run_folder(workflow(), photos, tmp_path / "whole", max_concurrency=1)
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_folder(workflow(), photos, tmp_path / "two", max_concurrency=1, advance=stop)
    summary = run_folder(workflow(), photos, tmp_path / "two", resume=True, place=PLACE, advance=seen.append)
    assert (summary.total, summary.done, summary.skipped) == (10, 9, 2)
    assert sorted(seen) == sorted(pictures_in(photos))  # each once
    assert summary.failed == whole.failed
    assert len(lines_of(tmp_path / "whole")) == 10
    for one, other in zip(lines_of(tmp_path / "whole"), lines_of(tmp_path / "two"), strict=True):
        first, second = one.pop("artifacts", []), other.pop("artifacts", [])
        assert one == other
        for before, after in zip(first, second, strict=True):
            # An actor may have another number of threads, which round otherwise in the last digits.
            np.testing.assert_allclose(after.pop("xyxy"), before.pop("xyxy"), atol=1e-3)
            np.testing.assert_allclose(after.pop("scores"), before.pop("scores"), atol=1e-4)
            assert after == before


def test_a_workflow_whose_system_is_on_ray_gives_what_it_gives_here(
    runtime: None, photos: Path, tmp_path: Path
) -> None:
    pictures = [photos / f"{number}.png" for number in (1, 2, 3)]
    here = workflow().batch(pictures)
    own = DecoderPlacement(num_cpus=0.1)
    engine = RayEngine(placement=Placement(router=RouterPlacement(num_cpus=0.1), decoder=own))
    with load(TINY, engine=engine) as system:
        there = workflow().using(system=system).batch(pictures)
    for one, other in zip(here, there, strict=True):
        assert one["number"] == other["number"] == 1
        assert one["bright"] == other["bright"]
        assert_same_boxes(other["found"], one["found"])


def assert_same_boxes(actual: Boxes, wanted: Boxes) -> None:
    """Actors may have another number of threads, which round otherwise in the last digits."""
    assert actual.names == wanted.names
    np.testing.assert_allclose(actual.xyxy, wanted.xyxy, atol=1e-3)
    np.testing.assert_allclose(actual.scores, wanted.scores, atol=1e-4)


def test_too_many_failures_stop_it_and_the_runtime_goes_on(
    runtime: None, photos: Path, tmp_path: Path
) -> None:
    summary = run_folder(workflow(), photos, tmp_path / "out", place=PLACE, max_failures=0)
    assert summary.stopped
    assert [name for name, _ in summary.failed] == ["bad.png"]
    again = run_folder(workflow(), photos, tmp_path / "out", place=PLACE, resume=True)
    assert (again.done, again.skipped) == (9, summary.done)


def test_what_no_file_can_hold_and_other_clusters_are_refused(
    runtime: None, photos: Path, tmp_path: Path
) -> None:
    wf = workflow()
    wf.output("twice", steps.step(lambda number: number * 2, name="twice")(wf.graph.outputs[1][1]))
    with pytest.raises(WorkflowError, match="twice"):
        run_folder(wf, photos, tmp_path / "out", place=PLACE)
    elsewhere = OnRay(model=TINY, allow=ALLOWED, address="10.0.0.1:6379")
    with pytest.raises(InputError, match="is connected to Ray"):
        run_folder(workflow(), photos, tmp_path / "other", place=elsewhere)
