"""The benchmark of asking: every task of a model, with the replies of a trained router or its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import ask
from superlink.agents.model_folder import save_model
from tests.agents.tiny_family import build_family
from tests.agents.tiny_model import build_model
from tests.benchmarks.conftest import Printed

MEASURED = {"seconds_best", "seconds_median", "cpu_seconds_best", "peak_mb"}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    save_model(folder, build_family())
    return folder


def test_forced_replies_take_the_whole_way_of_an_ask(family: Path, printed: Printed) -> None:
    ask.main(["--model", str(family), "--task", "edit", "--forced", "--runs", "1"])
    found = printed()
    assert found["benchmark"] == "ask"
    assert found["replies"].startswith("forced")
    assert found["targets"]["cold_seconds"] == 6.0
    for one in (found["import"], found["help"], found["tasks"]["edit"]["cold"]):
        assert one.keys() == MEASURED
        assert 0 < one["seconds_best"] <= one["seconds_median"]
        assert one["peak_mb"] > 0
    edit = found["tasks"]["edit"]
    assert (edit["text"], edit["artifacts"]) == ("Changed: make the star green.", ["picture"])
    assert edit["as_expected"]
    assert edit["warm"]["timings"].keys() == {"router", "instruct_pix2pix"}


def test_free_replies_are_those_of_the_command(tiny: Path, printed: Printed) -> None:
    ask.main(["--model", str(tiny), "--task", "find", "--runs", "1"])
    found = printed()
    assert found["replies"].startswith("free")
    assert found["tasks"].keys() == {"find"}
    assert found["tasks"]["find"]["artifacts"] == ["boxes"]
    assert found["tasks"]["find"]["as_expected"]


def test_every_task_is_asked_of_the_decoder_that_answers_it(family: Path) -> None:
    tasks, ids = ask.questions(str(family), "all")
    assert tuple(tasks) == ask.TASKS
    found = ask.warm(str(family), tasks, ids, 1, None)["tasks"]
    assert {name: found[name]["timings"].keys() - {"router"} for name in tasks} == {
        "find": {"grounding_dino"},
        "segment": {"sam"},
        "pose": {"unipose"},
        "generate": {"stable_diffusion"},
        "edit": {"instruct_pix2pix"},
        "caption": set(),
    }


def test_tasks_that_a_model_has_no_route_for_are_left_out(tmp_path: Path) -> None:
    save_model(tmp_path, build_model())  # [DET], [GRD] and [SEG], all of the detector
    tasks, ids = ask.questions(str(tmp_path), "all")
    assert list(tasks) == list(ids) == ["find", "segment", "caption"]
    assert list(ask.questions(str(tmp_path), "segment")[0]) == ["segment"]
    with pytest.raises(SystemExit, match="no decoder for 'pose'; its tasks are find, segment, caption"):
        ask.questions(str(tmp_path), "pose")


def test_every_run_sees_another_picture() -> None:
    seen = {np.asarray(ask.draw_scene(number)).tobytes() for number in range(60)}
    assert len(seen) == 60
