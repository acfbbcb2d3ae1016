"""Results of many pictures on disk, read back by the libraries that the formats are for."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from superlink.decoders.artifacts import Artifact, Boxes, Masks, Origin, Picture, Text, tight_boxes
from superlink.decoders.detections import import_supervision
from superlink.decoders.export import from_json
from superlink.decoders.png import load_masks
from superlink.decoders.rle import mask_of
from superlink.decoders.writers import open_writer
from superlink.decoders.writers.yolo import mirrored
from superlink.router.errors import InputError
from tests.decoders.found import POINTS, SIZE, Results, boxes, keypoints, masks, picture, written


def evaluated(truth: COCO, results: Iterable[dict[str, Any]], kind: str) -> float:
    """Average precision at IoU 0.5 to 0.95."""
    scored = COCOeval(truth, truth.loadRes([dict(one) for one in results]), kind)
    if kind == "keypoints":
        scored.params.kpt_oks_sigmas = np.full(len(POINTS), 0.05)
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    return float(scored.stats[0])


def test_pycocotools_reads_and_evaluates_a_coco_dataset(tmp_path: Path) -> None:
    results: Results = {"b.png": [masks(2)], "a.png": [masks(3, rows=3)], "none.png": [masks(4, rows=0)]}
    path = written(open_writer("coco", tmp_path), results) / "coco.json"
    truth = COCO(str(path))
    assert [one["file_name"] for one in truth.loadImgs(truth.getImgIds())] == ["a.png", "b.png", "none.png"]
    drawn = [truth.annToMask(one) for one in truth.imgToAnns[1]]
    np.testing.assert_array_equal(np.stack(drawn).astype(bool), masks(3, rows=3).masks)
    found = truth.dataset["annotations"]
    assert evaluated(truth, found, "bbox") == evaluated(truth, found, "segm") == pytest.approx(1.0)
    moved = [{**one, "bbox": [one["bbox"][0] + 40, *one["bbox"][1:]]} for one in found]
    assert evaluated(truth, moved, "bbox") < 0.1


def test_pycocotools_evaluates_keypoints_whose_names_differ_from_picture_to_picture(tmp_path: Path) -> None:
    results: Results = {"a.png": [keypoints()], "b.png": [keypoints(points=("nose", "tail"))]}
    truth = COCO(str(written(open_writer("coco", tmp_path), results) / "coco.json"))
    (category,) = truth.loadCats(truth.getCatIds())
    assert category["keypoints"] == [*POINTS, "tail"]
    first, second = truth.dataset["annotations"]
    assert first["keypoints"] == [8, 6, 2, 12, 3, 1, 0, 0, 0, 0, 0, 0]
    assert second["keypoints"] == [8, 6, 2, 0, 0, 0, 0, 0, 0, 12, 3, 1]
    scored = COCOeval(truth, truth.loadRes([dict(first), dict(second)]), "keypoints")
    scored.params.kpt_oks_sigmas = np.full(4, 0.05)
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == pytest.approx(1.0)


def test_supervision_reads_a_coco_dataset_with_its_pictures(tmp_path: Path) -> None:
    results: Results = {"b.jpg": [boxes(1)], "a.png": [boxes(2)]}
    folder = written(open_writer("coco", tmp_path, pictures=True, categories=["moon"]), results)
    read = import_supervision().DetectionDataset.from_coco(str(folder / "images"), str(folder / "coco.json"))
    assert read.classes == ["moon", "star", "red circle"]
    for path, _, detections in read:
        name = Path(path).name.replace("b.png", "b.jpg")
        (expected,) = results[name]
        assert isinstance(expected, Boxes)
        # Corner and width each have two digits in the file.
        np.testing.assert_allclose(detections.xyxy, expected.xyxy, atol=0.011)
        assert [read.classes[k] for k in detections.class_id] == list(expected.phrases)
        seed = list(results).index(name)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), picture(seed))


def yolo(folder: Path) -> Any:
    return import_supervision().DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml")
    )


def test_supervision_reads_boxes_of_a_yolo_dataset(tmp_path: Path) -> None:
    results: Results = {"a.jpg": [boxes(1)], "b.png": [boxes(2), masks(2)], "c.png": []}
    read = yolo(written(open_writer("yolo", tmp_path), results))
    assert read.classes == ["star", "red circle", "heart"]
    found = {Path(path).stem: detections for path, _, detections in read}
    assert len(found["c"]) == 0
    np.testing.assert_allclose(found["a"].xyxy, boxes(1).xyxy, atol=1e-3)
    np.testing.assert_allclose(found["b"].xyxy, np.concatenate([boxes(2).xyxy, masks(2).xyxy]), atol=1e-3)
    assert found["b"].mask is None


def test_supervision_reads_masks_of_a_yolo_dataset(tmp_path: Path) -> None:
    results: Results = {"a.png": [masks(1)], "b.png": [masks(2, rows=3)]}
    read = yolo(written(open_writer("yolo", tmp_path), results))
    for path, _, detections in read:
        (expected,) = results[Path(path).name]
        assert isinstance(expected, Masks)
        assert len(detections) == len(expected)
        for got, wanted in zip(detections.mask, expected.masks, strict=True):
            # OpenCV's filling takes in the pixels that the line touches: one more to the right and below.
            grown = np.pad(wanted, 1)
            grown = np.max([np.roll(grown, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
            assert not (got & ~grown[1:-1, 1:-1]).any()
            assert (got & wanted).sum() > 0.97 * wanted.sum()
        lines = (tmp_path / "labels" / f"{Path(path).stem}.txt").read_text().splitlines()
        for line, wanted in zip(lines, expected.masks, strict=True):
            ring = np.asarray(line.split()[1:], float).reshape(-1, 2) * (SIZE[1], SIZE[0])
            filled = mask_of([ring.reshape(-1).tolist()], size=SIZE)
            assert (filled & wanted).sum() > 0.97 * (filled | wanted).sum()


def test_a_yolo_dataset_of_poses_is_read_as_its_configuration_says(tmp_path: Path) -> None:
    results: Results = {"a.png": [keypoints()], "b.png": [keypoints(points=("nose",))]}
    folder = written(open_writer("yolo", tmp_path), results)
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data["kpt_shape"] == [3, 3]
    assert data["flip_idx"] == [0, 2, 1]
    assert data["names"] == {0: "person"}
    for stem, seen in (("a", 2), ("b", 1)):
        (line,) = (folder / "labels" / f"{stem}.txt").read_text().splitlines()
        values = np.asarray(line.split()[5:], float).reshape(data["kpt_shape"])
        np.testing.assert_allclose(values[0], [8 / SIZE[1], 6 / SIZE[0], 2], atol=1e-6)
        assert (values[:, 2] > 0).sum() == seen
    read = yolo(folder)
    for _, _, detections in read:
        np.testing.assert_allclose(detections.xyxy, [[4, 2, 20, 40]], atol=1e-3)


@pytest.mark.parametrize(("task", "rows"), [("detect", 4), ("segment", 1), ("pose", 1)])
def test_a_yolo_dataset_has_one_task(tmp_path: Path, task: str, rows: int) -> None:
    found: list[Artifact] = [boxes(1, rows=2), masks(1, rows=1), keypoints()]
    folder = written(open_writer("yolo", tmp_path, task=task, pictures=False), {"a.png": found})
    assert len((folder / "labels" / "a.txt").read_text().splitlines()) == rows
    assert not (folder / "images").exists()


def test_supervision_reads_labelme_files(tmp_path: Path) -> None:
    results: Results = {"a.jpg": [boxes(1)], "b.png": [masks(2, rows=3)]}
    folder = written(open_writer("labelme", tmp_path), results)
    read = import_supervision().DetectionDataset.from_labelme(str(folder), str(folder))
    assert read.classes == ["heart", "red circle", "star"]
    found = {Path(path).name: detections for path, _, detections in read}
    np.testing.assert_allclose(found["a.png"].xyxy, boxes(1).xyxy, atol=1e-4)
    np.testing.assert_allclose(found["b.png"].xyxy, masks(2, rows=3).xyxy, atol=1e-4)


def test_parts_of_a_mask_and_points_of_a_person_are_groups_in_labelme(tmp_path: Path) -> None:
    two = np.zeros((1, *SIZE), bool)
    two[0, 2:9, 2:9] = two[0, 20:30, 20:30] = True
    heart = masks(0, rows=1)
    apart = Masks(masks=two, xyxy=tight_boxes(two), scores=heart.scores, labels=heart.labels,
                  names=heart.names, size=SIZE)  # fmt: skip
    written(open_writer("labelme", tmp_path), {"a.png": [apart, keypoints(), heart]})
    shapes = json.loads((tmp_path / "a.json").read_text())["shapes"]
    told = [(one["label"], one["shape_type"], one["group_id"]) for one in shapes]
    person = [("person", "rectangle", 2), ("nose", "point", 2), ("left eye", "point", 2)]
    assert told == [*[("heart", "polygon", 1)] * 2, *person, ("heart", "polygon", None)]
    (detections,) = [d for _, _, d in import_supervision().DetectionDataset.from_labelme(
        str(tmp_path), str(_without_points(tmp_path)))]  # fmt: skip
    np.testing.assert_allclose(detections.xyxy[0], tight_boxes(two)[0])


def _without_points(folder: Path) -> Path:
    """supervision warns of shapes that it does not know."""
    data = json.loads((folder / "a.json").read_text())
    data["shapes"] = [one for one in data["shapes"] if one["shape_type"] != "point"]
    (folder / "plain").mkdir()
    (folder / "plain" / "a.json").write_text(json.dumps(data))
    return folder / "plain"


def test_lines_of_json_are_those_of_the_command_line(tmp_path: Path) -> None:
    made = Picture(pixels=picture(9), origin=Origin(id="picture-1", decoder="stable_diffusion"))
    with open_writer("jsonl", tmp_path) as writer:
        writer.add("b.png", picture(0), {"hearts": masks(2)}, text="Two.", values={"missing": 2})
        writer.add("a.png", picture(1), [Text(text="a star", origin=Origin(id="text-1")), made])
        writer.add("broken.png", None, error="cut off")
    lines = list(map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines()))
    assert [line["image"] for line in lines] == ["a.png", "b.png", "broken.png"]
    assert list(lines[1]) == ["image", "size", "text", "artifacts", "values"]
    (found,) = lines[1]["artifacts"]
    assert (found["id"], lines[1]["text"], lines[1]["values"]) == ("hearts", "Two.", {"missing": 2})
    back = from_json(found, size=tuple(lines[1]["size"]))
    assert isinstance(back, Masks)
    np.testing.assert_array_equal(back.masks, masks(2).masks)
    saved = Image.open(tmp_path / lines[0]["artifacts"][1]["path"])
    np.testing.assert_array_equal(np.asarray(saved), picture(9))
    assert lines[2]["error"] == "cut off"


def test_tables_have_a_row_an_item_and_a_row_a_picture(tmp_path: Path) -> None:
    with open_writer("csv", tmp_path) as writer:
        writer.add("b.png", picture(0), [boxes(1), keypoints()], text='He said "hi",\nthen left')
        writer.add("a.png", picture(1), [masks(2)], values={"missing": 2, "site": "north"})
        writer.add("broken.png", None, error="cut off")
    with (tmp_path / "items.csv").open(newline="") as file:
        items = list(csv.DictReader(file))
    assert [row["image"] for row in items] == ["a.png"] * 2 + ["b.png"] * 4
    np.testing.assert_array_equal(
        mask_of({"size": list(SIZE), "counts": items[0]["mask"]}, size=SIZE), masks(2).masks[0]
    )
    corners = [[float(row[name]) for name in ("x0", "y0", "x1", "y1")] for row in items[2:5]]
    np.testing.assert_allclose(corners, boxes(1).xyxy, atol=0.005)
    assert json.loads(items[5]["keypoints"])["left eye"] == [12, 3, 1]
    with (tmp_path / "images.csv").open(newline="") as file:
        a, b, broken = csv.DictReader(file)
    assert (a["missing"], a["site"], a["items"], b["missing"]) == ("2", "north", "2", "")
    assert b["text"] == 'He said "hi",\nthen left'
    assert broken["error"] == "cut off"


def test_a_value_called_like_a_column_has_a_column_of_its_own(tmp_path: Path) -> None:
    fixed = {"image": "i", "width": 1, "height": 2, "items": 99, "text": "t", "error": "e"}
    with open_writer("csv", tmp_path) as writer:
        writer.add("a.png", picture(0), [boxes(1)], text="Three.", values={**fixed, "value.items": 7, "n": 5})
    with (tmp_path / "images.csv").open(newline="") as file:
        heads, _ = csv.reader(file)
    assert len(set(heads)) == len(heads)
    with (tmp_path / "images.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    own = ["a.png", str(SIZE[1]), str(SIZE[0]), "3", "Three.", ""]
    assert [row[name] for name in fixed] == own
    assert {name: row[f"value.{name}"] for name in fixed} == {key: str(one) for key, one in fixed.items()}
    assert (row["value.value.items"], row["n"]) == ("7", "5")


def test_masks_and_drawings_come_as_png(tmp_path: Path) -> None:
    written(open_writer("png", tmp_path), {"site/a.jpg": [masks(2), boxes(1)]})
    paths = [tmp_path / f"masks/site/a-masks-1-{row}.png" for row in range(2)]
    np.testing.assert_array_equal(load_masks(paths, size=SIZE), masks(2).masks)
    with Image.open(tmp_path / "drawn/site/a.png") as drawn:
        assert drawn.size == (640, 480)


def test_left_and_right_change_places_in_a_mirror() -> None:
    assert mirrored(["nose", "left_eye", "right_eye", "left_ear"]) == [0, 2, 1, 3]


def test_what_a_writer_cannot_take_is_one_clear_line(tmp_path: Path) -> None:
    for options, said in (
        ({"categories": "star"}, "categories are a list of strings, got 'star'"),
        ({"names": "a.png"}, "names are a list of strings"),
        ({"names": [5]}, "names are a list of strings"),
    ):
        with pytest.raises(InputError, match=said):
            open_writer("jsonl", tmp_path, **options)
    writer = open_writer("jsonl", tmp_path)
    for pixels, found, said in (
        (np.zeros((4, 4), np.uint8), (), r"an array \(H, W, 3\) of uint8, got \(4, 4\) of uint8"),
        (np.zeros((4, 4, 3)), (), r"got \(4, 4, 3\) of float64"),
        ("a.png", (), "got str"),
        (None, masks(2), "artifacts are a list or a mapping of them, got Masks"),
        (None, [5], "a writer takes artifacts, got int"),
    ):
        with pytest.raises(InputError, match=said):
            writer.add("a.png", pixels, found)
    with pytest.raises(InputError, match="the name of a picture is a string, got int"):
        writer.add(5, picture(0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="become names of files"):
        writer.add("a.png", picture(0), {"x\0": boxes(0)})
    assert writer.done == frozenset()
