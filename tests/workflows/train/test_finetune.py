"""`superlink train finetune` on small made-up data, end to end, with a real router and Grounding DINO."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import superlink
from superlink.router.checkpoint import load_weights
from superlink.router.errors import DataError, InputError, ModelError
from superlink.workflows.data.checking import check_data
from superlink.workflows.data.formats import recognise
from superlink.workflows.train.command import app
from superlink.workflows.train.finetune import checked, sources_of
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.recipes import RECIPES
from superlink.workflows.train.staged import SERIES, STAGED, Start
from tests.workflows.train.test_shapes import small_system

SIDE = 64
PLACES = {"ball": (8, 8, 24, 24), "box": (32, 28, 24, 28)}  # x, y, width, height
COLOURS = {"ball": (250, 30, 30), "box": (30, 60, 250)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the smallest size."""
    folder = tmp_path_factory.mktemp("model") / "smoke"
    system = small_system()
    torch.manual_seed(0)
    system.export(system.build(), folder)
    return folder


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Four pictures with a coloured rectangle or two, as a COCO file with outlines."""
    images, annotations = [], []
    for index in range(4):
        pixels = np.full((SIDE, SIDE, 3), 40 * index, np.uint8)
        names = (["ball"], ["box"], ["ball", "box"], ["box"])[index]
        for name in names:
            x, y, wide, high = PLACES[name]
            x += 2 * index
            pixels[y : y + high, x : x + wide] = COLOURS[name]
            corners = [x, y, x + wide, y, x + wide, y + high, x, y + high]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": list(PLACES).index(name) + 1,
                    "bbox": [x, y, wide, high],
                    "segmentation": [corners],
                }
            )
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": SIDE, "width": SIDE})
    categories = [{"id": k, "name": name} for k, name in enumerate(PLACES, start=1)]
    return rewritten(
        tmp_path / "things.json", {"images": images, "annotations": annotations, "categories": categories}
    )


def rewritten(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def called(model: Path, out: Path, *arguments: str | Path, recipe: str = "finetune") -> Any:
    fixed = [recipe, "--model", str(model), "--out", str(out), "--local"]
    return CliRunner().invoke(app, [*fixed, *map(str, arguments)])


def test_a_coco_file_becomes_a_model_that_answers(model: Path, boxes: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    result = called(model, out, "--data", boxes, "--steps", "3", "--batch", "4")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out / "model")
    assert "things.json: coco, 4 samples: " in result.stderr
    system = superlink.load(out / "model")
    turn = system.ask("find every ball", image=boxes.parent / "0.png")
    assert isinstance(turn.text, str)
    head = json.loads((out / "model" / "system.json").read_text())
    assert head["name"] == "mine"
    before = (model / "router" / "model.safetensors").read_bytes()
    assert (out / "model" / "router" / "model.safetensors").read_bytes() != before


def test_the_published_stages_run_in_turn_each_from_the_model_before_with_its_own_numbers(
    model: Path, boxes: Path, tmp_path: Path
) -> None:
    (name, stages), *_ = SERIES.items()
    result = called(model, tmp_path, "--data", boxes, "--steps", "1", "--batch", "2", "--json", recipe=name)
    assert result.exit_code == 0, result.output
    folders = [Path(json.loads(line)["folder"]) for line in result.stdout.splitlines()]
    assert folders == [tmp_path / f"{index}-{stage}" for index, stage in enumerate(stages, 1)]
    rates = [line["lr"] for one in folders for line in read_lines(one / "metrics.jsonl") if "lr" in line]
    assert rates == [1e-3, 2.5e-5, 1e-4, 1e-4]  # table A12 of the paper
    words = [
        load_weights(one / "router", "model")["llm.model.layers.0.mlp.up_proj.weight"]
        for one in (model, *[one / "model" for one in folders])
    ]
    learned = [not torch.equal(before, after) for before, after in pairwise(words)]
    assert learned == [False, True, True, False]
    assert Start.of(folders[-1] / "model").router == Start.of(model).router  # tiles are cut as before


def test_losses_fall_on_four_pictures_seen_again_and_again(model: Path, boxes: Path, tmp_path: Path) -> None:
    result = called(
        model, tmp_path, "--data", boxes, "--steps", "45", "--batch", "4", "--lr", "3e-3", "--average", "0.9"
    )
    assert result.exit_code == 0, result.output
    lines = [line["losses"] for line in read_lines(tmp_path / "metrics.jsonl") if line["kind"] == "train"]
    first, last = lines[0], lines[-1]
    assert last["total"] < 0.7 * first["total"]
    assert last["language"] < 0.75 * first["language"]
    assert last["grounding_dino/loss_bbox"] < 0.9 * first["grounding_dino/loss_bbox"]


def test_adapters_leave_what_is_not_named_as_it_was(model: Path, boxes: Path, tmp_path: Path) -> None:
    result = called(
        model, tmp_path, "--data", boxes, "--steps", "2", "--batch", "2", "--lora", "2",
        "--trainable", "router.queries.*", "--lr", "1e-2", "--keep-links", "2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    first, second = (line["losses"] for line in read_lines(tmp_path / "metrics.jsonl"))
    assert second["kept_links"] > first["kept_links"] == 0  # adapters begin as nothing
    for part in ("router", "decoders/grounding_dino"):
        before, after = (load_weights(folder / part, "model") for folder in (model, tmp_path / "model"))
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        expected = {"queries.det.weight"} | {
            name for name in before if name.endswith(("q_proj.weight", "v_proj.weight", "down_proj.weight"))
        }
        if part == "router":
            assert expected - {name for name in expected if "vision_tower" in name} <= changed
            assert not any("vision_tower" in name or "norm" in name for name in changed)
        else:
            assert not changed


def test_bad_records_stop_the_run_unless_it_is_told_to_go_on(
    model: Path, boxes: Path, tmp_path: Path
) -> None:
    data = json.loads(boxes.read_text())
    data["annotations"][0]["bbox"] = [60, 8, 24, 24]
    data["images"].append({"id": 9, "file_name": "gone.png", "height": 4, "width": 4})
    rewritten(boxes, data)
    Image.new("RGB", (4, 4)).save(tmp_path / "3.png")
    call = ("--data", boxes, "--steps", "1", "--batch", "2")
    stopped = called(model, tmp_path / "a", *call)
    assert isinstance(stopped.exception, DataError)
    message = str(stopped.exception)
    assert message.startswith(
        f"3 records cannot be used; the first: {tmp_path.name}/things.json, image 9: there is no picture"
    )
    assert "--skip-bad" in message
    assert "\n" not in message
    for said in (
        "things.json: coco, 4 samples: ",
        f"bad: {tmp_path.name}/things.json, image 9: there is no picture",
        f"bad: {tmp_path.name}/things.json, annotation 1: the box",
        f"bad: {tmp_path.name}/things.json, image 3: ",
    ):
        assert said in stopped.stderr
    assert not (tmp_path / "a").exists()
    looked_at = called(model, tmp_path / "a", *call, "--check", "--json")
    assert isinstance(looked_at.exception, DataError)
    assert len(json.loads(looked_at.stdout)[0]["bad"]) == 3
    gone_on = called(model, tmp_path / "b", *call, "--skip-bad")
    assert gone_on.exit_code == 0, gone_on.output
    assert (tmp_path / "b" / "model" / "system.json").is_file()


def talk_of(path: Path, answers: list[str]) -> Path:
    turns = ([{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}] for answer in answers)
    path.write_text("".join(json.dumps({"conversations": turn}) + "\n" for turn in turns))
    return path


def test_a_record_that_was_not_among_those_tried_is_named_or_skipped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As line 6 of 600 is, of which 500 are tried."""
    default = check_data.__kwdefaults__
    assert default is not None
    monkeypatch.setitem(default, "most", 2)
    talk = talk_of(tmp_path / "talk.jsonl", ["Yes.", "no " * 9000, "No.", "Maybe."])
    call = ("--data", talk, "--steps", "3", "--batch", "4")
    stopped = called(model, tmp_path / "a", *call)
    assert isinstance(stopped.exception, InputError)
    assert re.fullmatch(
        r"talk\.jsonl, line 2: the last round needs \d+ positions, the router takes .*",
        str(stopped.exception),
    )
    gone_on = called(model, tmp_path / "b", *call, "--skip-bad")
    assert gone_on.exit_code == 0, gone_on.output


def test_sources_that_try_their_samples_reach_other_processes(model: Path, tmp_path: Path) -> None:
    start = Start.of(model)
    reports = checked(start, [recognise(talk_of(tmp_path / "talk.jsonl", ["Yes.", "No."]))])
    (source,) = sources_of(start, reports, skip_bad=True)
    assert len({pickle.loads(pickle.dumps(source)).open()[index].source for index in (0, 1)}) == 2


def test_another_run_in_the_folder_of_a_finished_one_is_refused(
    model: Path, boxes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    call = ("--data", boxes, "--steps", "1", "--batch", "2")
    assert called(model, out, *call).exit_code == 0
    assert called(model, out, *call).exit_code == 0
    other = tmp_path / "other" / boxes.name
    other.parent.mkdir()
    other.write_text(boxes.read_text() + " ")
    for changed, said in (
        (
            (*call, "--lr", "1e-2"),
            r"rates\.finetune\.lr = 0\.0002, this one has 0\.01; use the same settings",
        ),
        (
            (*call, "--trainable", "decoders.*"),
            r"learned\.finetune\.trainable = \[.*\], this one has \['decoders\.\*'\]; use",
        ),
        (
            ("--data", other, "--images", tmp_path, *call[2:]),
            r"data\.finetune\.1-1-things\.open\.0\.path = \['.*things\.json', \d+\], this one has "
            r"\['.*things\.json', \d+\]; use",
        ),
    ):
        refused = called(model, out, *changed)
        assert isinstance(refused.exception, ModelError), refused.output
        assert re.search(rf"comes from a run with {said}", str(refused.exception)), refused.exception
        assert "\n" not in str(refused.exception)
    again = called(out / "model", out, *call)
    assert re.search(r"with start = '.*smoke', this one has '.*run/model'; use", str(again.exception))


def test_starting_anew_does_not_drop_the_model_that_it_starts_from(
    model: Path, boxes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    start = shutil.copytree(model, out / "model")
    (tmp_path / "link").symlink_to(start)
    for path in (start, tmp_path / "link"):
        result = called(path, out, "--data", boxes, "--steps", "1", "--batch", "2", "--no-resume")
        assert isinstance(result.exception, InputError)
        assert str(result.exception) == (
            f"the model to start from ({str(path)!r}) would be dropped with the earlier run in {str(out)!r}; "
            f"give the new run another folder (--out)"
        )
    assert (start / "system.json").is_file()


def test_numbers_that_mean_nothing_are_refused(model: Path, boxes: Path, tmp_path: Path) -> None:
    for option, value, said in (
        ("--lr", "0", "at a learning rate of 0.0 nothing is learned; give --lr a number above 0"),
        ("--epochs", "0", "in 0.0 epochs nothing is learned; give --epochs a number above 0"),
        ("--average", "1", "must be at least 0 and below 1, such as 0.999; got 1.0"),
        ("--average", "-0.5", "must be at least 0 and below 1, such as 0.999; got -0.5"),
    ):
        result = called(model, tmp_path / "x", "--data", boxes, option, value)
        assert isinstance(result.exception, InputError)
        assert said in str(result.exception)
    assert called(model, tmp_path / "x", "--data", boxes, "--seed", "-1").exit_code == 2
    assert CliRunner().invoke(app, ["shapes-smoke", "--seed", "-1"]).exit_code == 2
    assert not (tmp_path / "x").exists()


def test_adapters_are_averaged_like_all_that_learns(model: Path, boxes: Path, tmp_path: Path) -> None:
    result = called(
        model, tmp_path, "--data", boxes, "--steps", "1", "--batch", "2", "--lora", "2", "--average", "0.5"
    )
    assert result.exit_code == 0, result.output
    averages = load_weights(tmp_path / "checkpoints" / "step-00000001", "average")
    assert any("lora_A" in name for name in averages)


def test_several_kinds_of_data_train_together_and_can_be_checked_alone(
    model: Path, boxes: Path, tmp_path: Path
) -> None:
    talk = tmp_path / "talk.jsonl"
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A ball."}]
    talk.write_text(json.dumps({"id": 1, "image": "0.png", "conversations": turns}))
    data = ("--data", boxes, "--data", talk)
    only = called(model, tmp_path / "no", *data, "--check")
    assert only.exit_code == 0, only.output
    assert "talk.jsonl: llava, 1 samples: 1 conversation" in only.stderr
    checked = json.loads(called(model, tmp_path / "no", *data, "--check", "--json").stdout)
    assert [(one["format"], one["tasks"]) for one in checked][1] == ("llava", {"conversation": 1})
    assert not (tmp_path / "no").exists()
    result = called(model, tmp_path / "run", *data, "--steps", "2", "--batch", "4", "--json", recipe="tune")
    assert result.exit_code == 0, result.output
    (line, *_) = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert line["stage"] == "tune"
    told = json.loads(result.stdout)
    assert (told["steps"], told["of"], told["finished"]) == (2, 2, True)
    assert told["model"] == str(tmp_path / "run" / "model")
    assert told["losses"]["total"] > 0


def test_what_the_model_cannot_learn_is_said_before_anything_starts(
    model: Path, boxes: Path, tmp_path: Path
) -> None:
    data = json.loads(boxes.read_text())
    data["categories"][0]["keypoints"] = ["top"]
    poses = called(model, tmp_path / "x", "--data", rewritten(boxes, data))
    assert isinstance(poses.exception, InputError)
    assert "coco-keypoints needs a decoder for [POSE]; this model answers" in str(poses.exception)
    missing = called(model, tmp_path / "x", "--data", tmp_path / "gone")
    assert "there is no data at" in str(missing.exception)
    assert called(model, tmp_path / "x").exit_code == 2


def test_help_and_list_show_every_recipe() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    listed = CliRunner().invoke(app, ["list"])
    assert shown.exit_code == listed.exit_code == 0
    for name in (*RECIPES, *STAGED, *SERIES):
        assert name in shown.output
        assert name in [line.split()[0] for line in listed.output.splitlines()]
