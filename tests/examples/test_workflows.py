"""The examples run as they stand, on the embedded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from examples import count_and_alert, detect_crop_describe, label_dataset, privacy_blur

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "superlink/weights/tiny"
SCENE = ROOT / "examples/scene.png"


def test_counting_alerts_and_survives_a_bad_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    count_and_alert.main([str(SCENE), str(tmp_path / "bad.png")], model=TINY)
    first, second = capsys.readouterr().out.splitlines()
    assert "ALERT: only" in first
    assert "failed:" in second


def test_every_circle_is_looked_at_closer_up(capsys: pytest.CaptureFixture[str]) -> None:
    detect_crop_describe.main(str(SCENE), model=TINY)
    *near, last = capsys.readouterr().out.splitlines()
    assert len(near) >= 1
    assert last.startswith("stars in the photo: [[")


def test_what_is_blurred_has_lost_its_detail(tmp_path: Path) -> None:
    privacy_blur.main(str(SCENE), str(tmp_path / "blurred.png"), phrase="star", model=TINY)
    before, after = (
        np.asarray(Pillow.open(SCENE).convert("RGB")),
        np.asarray(Pillow.open(tmp_path / "blurred.png")),
    )
    changed = (before != after).any(2)
    assert 0.005 < changed.mean() < 0.5


def test_a_folder_becomes_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(SCENE, tmp_path / "photos/a.png")
    for _ in range(2):  # the second time there is nothing left to do
        label_dataset.main(str(tmp_path / "photos"), str(tmp_path / "out"), model=TINY)
    (file,) = [path for path in (tmp_path / "out").glob("*.json") if path.name != "run.json"]
    data = json.loads(file.read_text())
    assert len(data["images"]) == 1
    assert {one["name"] for one in data["categories"]} >= {"circle", "star"}
    assert len(data["annotations"]) >= 2
