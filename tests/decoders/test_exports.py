"""Results of many pictures on disk, read back by the libraries that the formats are for."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, Picture, Text, tight_boxes
from superlink.decoders.detections import import_supervision
from superlink.decoders.export import from_json
from superlink.decoders.png import load_masks
from superlink.decoders.rle import mask_of
from superlink.decoders.writers import FORMATS, Writer, open_writer
from superlink.decoders.writers.yolo import mirrored
from superlink.router.errors import InputError

SIZE = (48, 64)
POINTS = ("nose", "left eye", "right eye")


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def boxes(seed: int, *, names: tuple[str, ...] = ("star", "red circle"), rows: int = 3) -> Boxes:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 30, (rows, 2))
    xyxy = np.concatenate([low, low + rng.uniform(2, 15, (rows, 2))], axis=1).astype(np.float32)
    return Boxes(
        xyxy=xyxy,
        scores=rng.uniform(0.3, 1, rows).astype(np.float32),
        labels=rng.integers(0, len(names), rows),
        names=names,
        size=SIZE,
        origin=Origin(id="boxes-1", decoder="grounding_dino"),
    )


def masks(seed: int, *, rows: int = 2, name: str = "heart") -> Masks:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = rng.uniform(14, 34, (rows, 2))
    shapes = np.zeros((rows, *SIZE), bool)
    for row, (cx, cy) in enumerate(centres):
        shapes[row] = np.hypot(x - cx, y - cy) < rng.uniform(5, 12)
    return Masks(
        masks=shapes,
        xyxy=tight_boxes(shapes),
        scores=np.ones(rows, np.float32),
        labels=np.zeros(rows, np.int64),
        names=(name,),
        size=SIZE,
        origin=Origin(id="masks-1", decoder="sam"),
    )


def keypoints(*, points: tuple[str, ...] = POINTS) -> Keypoints:
    xyv = [[[8.0, 6.0, 2.0], [12.0, 3.0, 1.0], [0.0, 0.0, 0.0]][: len(points)]]
    return Keypoints(
        xyv=np.asarray(xyv, np.float32),
        keypoint_names=points,
        xyxy=np.asarray([[4, 2, 20, 40]], np.float32),
        scores=np.asarray([0.75], np.float32),
        labels=np.asarray([0]),
        names=("person",),
        size=SIZE,
        origin=Origin(id="keypoints-1", decoder="unipose"),
    )


Results = dict[str, list[Artifact]]


def written(writer: Writer, results: Results) -> Path:
    with writer:
        for seed, (name, artifacts) in enumerate(results.items()):
            writer.add(name, picture(seed), artifacts)
    return writer.folder


def mixed() -> Results:
    return {
        "b.png": [boxes(1), masks(2)],
        "a.jpg": [masks(3, rows=3)],
        "site/empty.png": [boxes(0, rows=0)],
        "c.png": [keypoints(), boxes(5, names=("person",))],
    }


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


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
        np.testing.assert_allclose(detections.xyxy, expected.xyxy, atol=1e-4)
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


def test_masks_and_drawings_come_as_png(tmp_path: Path) -> None:
    written(open_writer("png", tmp_path), {"site/a.jpg": [masks(2), boxes(1)]})
    paths = [tmp_path / f"masks/site/a-masks-1-{row}.png" for row in range(2)]
    np.testing.assert_array_equal(load_masks(paths, size=SIZE), masks(2).masks)
    with Image.open(tmp_path / "drawn/site/a.png") as drawn:
        assert drawn.size == (640, 480)


WITHOUT_FIFTYONE = [name for name in FORMATS if name != "fiftyone"]


@pytest.mark.parametrize("format", WITHOUT_FIFTYONE)
def test_a_run_that_was_cut_off_and_went_on_gives_the_same_bytes(format: str, tmp_path: Path) -> None:
    results = mixed()
    if format == "png":  # drawing takes its time
        results = {"b.png": [masks(2, rows=1)], "a.jpg": [masks(3, rows=1)], "c.png": []}
    whole = open_writer(format, tmp_path / "whole")
    written(whole, results)
    names = list(results)
    first = open_writer(format, tmp_path / "cut")
    for name in names[2:]:
        first.add(name, picture(names.index(name)), results[name])
    first.add(names[0], None, error="for now")
    # What kill -9 leaves of a file that was being written.
    (tmp_path / "cut" / ".records" / format / ".x.json.1.part").write_bytes(b"half")
    second = open_writer(format, tmp_path / "cut")
    assert second.done == set(names[2:])
    assert second.failed == {names[0]: "for now"}
    for name in names[:2]:
        second.add(name, picture(names.index(name)), results[name])
    second.close()
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert second.failed == {}


@settings(max_examples=10)
@given(st.permutations(list(mixed())), st.sampled_from(["coco", "yolo", "csv", "jsonl"]))
def test_the_order_of_pictures_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], format: str
) -> None:
    results, names = mixed(), list(mixed())
    folder, other = tmp_path_factory.mktemp("order"), tmp_path_factory.mktemp("plain")
    with open_writer(format, folder) as writer:
        for name in order:
            writer.add(name, picture(names.index(name)), results[name])
    written(open_writer(format, other), results)
    assert tree(folder) == tree(other)


@pytest.mark.parametrize("format", WITHOUT_FIFTYONE)
def test_a_picture_that_failed_is_no_picture_without_objects(format: str, tmp_path: Path) -> None:
    with open_writer(format, tmp_path) as writer:
        writer.add("a.png", picture(0), [masks(1)])
        writer.add("bad.png", None, error="cut off")
    text = b"".join(tree(tmp_path / name)[file] for name in [""] for file in tree(tmp_path) if file[0] != ".")
    assert (b"bad.png" in text) == (format in ("jsonl", "csv"))


def test_pictures_that_differ_in_the_suffix_alone_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "A.webp"]
    for order in (names, names[::-1]):
        with open_writer("yolo", tmp_path / order[0], names=names) as writer:
            for name in order:
                writer.add(name, picture(names.index(name)), [boxes(names.index(name))])
    assert sorted(path.name for path in (tmp_path / "a.jpg" / "labels").iterdir()) == [
        "A-3.txt", "a-2.txt", "a.txt"
    ]  # fmt: skip
    assert tree(tmp_path / "a.jpg") == tree(tmp_path / "A.webp")
    writer = open_writer("yolo", tmp_path / "unknown")
    writer.add("a.jpg", picture(0))
    with pytest.raises(InputError, match=r"'a.png' and 'a.jpg' would both be written as 'a'; pass names="):
        writer.add("a.png", picture(1))


@pytest.mark.parametrize("name", ["../a.png", "/tmp/a.png", "x/../../a.png", "", "\\a.png"])
def test_a_name_cannot_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="relative to where they come from"):
        open_writer("png", tmp_path).add(name, picture(0))


def test_what_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no format 'voc'; formats are coco, csv"):
        open_writer("voc", tmp_path)
    with pytest.raises(InputError, match="'coco' has no option 'task'"):
        open_writer("coco", tmp_path, task="pose")
    with pytest.raises(InputError, match="detect, segment, pose, not 'boxes'"):
        open_writer("yolo", tmp_path, task="boxes")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; name a folder"):
        open_writer("coco", tmp_path / "file")
    writer = open_writer("jsonl", tmp_path)
    with pytest.raises(InputError, match=r"boxes-1 is of a picture of size \[48, 64\], 'a.png' has"):
        writer.add("a.png", picture(0)[:9], [boxes(0)])
    with pytest.raises(InputError, match=r"values of 'a.png' are not JSON"):
        writer.add("a.png", picture(0), values={"n": float("nan")})
    assert writer.done == frozenset()


def test_records_of_another_version_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    written(open_writer("coco", tmp_path), {"a.png": [boxes(0)]})
    (path,) = (tmp_path / ".records" / "coco").iterdir()
    good = path.read_text()
    path.write_text(good.replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="has version 2, this version of superlink reads 1"):
        open_writer("coco", tmp_path)
    path.write_text(good[:40])
    with pytest.raises(InputError, match="is damaged"):
        open_writer("coco", tmp_path)


def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer("coco", tmp_path)
    writer.add("a.png", picture(0), [boxes(0)])
    writer.close()
    before = tree(tmp_path)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left"):
            writer.add("b.png", picture(1), [boxes(1)])
    with contextlib.suppress(InputError):
        writer.close()
    assert tree(tmp_path) == before
    assert writer.done == {"a.png"}


def test_left_and_right_change_places_in_a_mirror() -> None:
    assert mirrored(["nose", "left_eye", "right_eye", "left_ear"]) == [0, 2, 1, 3]


class _Label:
    """Keeps what FiftyOne's classes are made of."""

    def __init__(self, **given: Any) -> None:
        self.given = given


class _Sample(dict[str, Any]):
    def __init__(self, *, filepath: str) -> None:
        super().__init__(filepath=filepath)


def fake_fiftyone() -> tuple[ModuleType, list[_Sample]]:
    kept: list[_Sample] = []
    module = ModuleType("fiftyone")

    class Dataset:
        def __init__(self, name: str, *, persistent: bool, overwrite: bool) -> None:
            assert (name, persistent, overwrite) == ("talk", True, True)

        def add_samples(self, samples: list[_Sample]) -> None:
            kept.extend(samples)

    for name in ("Detection", "Detections", "Keypoint", "Keypoints"):
        setattr(module, name, type(name, (_Label,), {}))
    module.Dataset, module.Sample = Dataset, _Sample  # type: ignore[attr-defined]
    return module, kept


def test_fiftyone_gets_shares_of_the_sides_and_masks_of_the_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, samples = fake_fiftyone()
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    written(open_writer("fiftyone", tmp_path / "talk"), {"a.jpg": [boxes(1), masks(2), keypoints()]})
    (sample,) = samples
    assert np.array_equal(np.asarray(Image.open(sample["filepath"])), picture(0))
    first = sample["boxes_1"].given["detections"][0].given
    x, y, width, height = first["bounding_box"]
    x0, y0, x1, y1 = boxes(1).xyxy[0].tolist()
    np.testing.assert_allclose([x * 64, y * 48, (x + width) * 64, (y + height) * 48], [x0, y0, x1, y1])
    heart = sample["masks_1"].given["detections"][1].given
    x0, y0, x1, y1 = masks(2).xyxy[1].astype(int)
    np.testing.assert_array_equal(heart["mask"], masks(2).masks[1, y0:y1, x0:x1])
    points = sample["keypoints_1"].given["keypoints"][0].given["points"]
    np.testing.assert_allclose(points[:2], [(8 / 64, 6 / 48), (12 / 64, 3 / 48)])
    assert np.isnan(points[2]).all()


def test_fiftyone_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(InputError, match="pip install fiftyone"):
        open_writer("fiftyone", tmp_path)
