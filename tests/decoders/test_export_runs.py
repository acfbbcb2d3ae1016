"""Exports of runs that were cut off, in any order, with names and disks that make trouble; and FiftyOne."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from superlink.decoders.artifacts import Origin, Picture
from superlink.decoders.writers import FORMATS, Writer, open_writer
from superlink.router.errors import InputError
from tests.decoders.found import boxes, keypoints, masks, mixed, picture, tree, written

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


ADDED: dict[str, Callable[[Writer], None]] = {
    "masks": lambda writer: writer.add(
        "a.png", picture(0), [masks(1, rows=3), Picture(pixels=picture(9), origin=Origin(id="picture-1"))]
    ),
    "error": lambda writer: writer.add("a.png", None, error="cut off"),
    "one mask": lambda writer: writer.add("b.png", picture(1), [masks(2, rows=1)]),
    "boxes": lambda writer: writer.add("b.png", picture(1), [boxes(2)]),
}


def after(writer: Writer, *added: str) -> dict[str, bytes]:
    """All files of a folder to which these were added."""
    with writer:
        for one in added:
            ADDED[one](writer)
    return tree(writer.folder)


@pytest.mark.parametrize("format", WITHOUT_FIFTYONE)
@pytest.mark.parametrize("again", [False, True])
def test_results_that_replace_others_leave_no_file_of_them(format: str, again: bool, tmp_path: Path) -> None:
    first = open_writer(format, tmp_path / "replaced", pictures=True)
    after(first, "masks", "one mask")
    second = open_writer(format, first.folder, pictures=True) if again else first
    replaced = after(second, "error", "boxes")
    assert replaced == after(open_writer(format, tmp_path / "alone", pictures=True), "error", "boxes")
    assert second.done == {"b.png"}
    back = after(second, "masks", "one mask")
    assert back == after(open_writer(format, tmp_path / "back", pictures=True), "masks", "one mask")


class _KilledError(BaseException):
    """Nothing catches it, as nothing catches `kill -9`."""


def killed_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """From then on no file takes its name and none is removed."""
    left, unlink = [steps], Path.unlink

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def either(self: Path, *given: Any, **named: Any) -> Any:
            if call is unlink and self.suffix == ".part" and left[0] > 0:
                return call(self, *given, **named)  # tidying up after a file that took its name
            left[0] -= 1
            if left[0] < 0:
                raise _KilledError
            return call(self, *given, **named)

        return either

    patch.setattr(Path, "replace", dying(Path.replace))
    patch.setattr(Path, "unlink", dying(unlink))


@pytest.mark.parametrize("format", ["yolo", "labelme", "png", "jsonl"])
def test_a_run_that_was_killed_while_it_replaced_results_leaves_no_file_that_is_not_recorded(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(files: dict[str, bytes]) -> dict[str, bytes]:
        return {name: data for name, data in files.items() if not name.startswith(".records")}

    # Drawing takes its time.
    monkeypatch.setattr("superlink.decoders.draw.draw", lambda pixels, _: Picture(pixels=pixels))
    states: list[tuple[str, ...]] = [
        tuple(one for one in (a, b) if one) for a in ("masks", "", "error") for b in ("one mask", "", "boxes")
    ]
    whole = [after(open_writer(format, tmp_path / f"whole-{k}"), *one) for k, one in enumerate(states)]
    for steps in range(40):
        folder = tmp_path / str(steps)
        after(open_writer(format, folder), "masks", "one mask")
        writer = open_writer(format, folder)
        with monkeypatch.context() as patch:
            killed_after(steps, patch)
            try:
                for one in ("error", "boxes"):
                    ADDED[one](writer)
                ended = True
            except _KilledError:
                ended = False
        for part in folder.rglob(".*.part"):
            part.unlink()  # as the next writer does in a process of its own
        left = after(open_writer(format, folder))
        assert own(left) in [own(one) for one in whole], steps
        assert after(open_writer(format, folder), "error", "boxes") == whole[-1], steps
        if ended:
            break
    assert ended
    assert steps > 2


def test_results_that_cannot_be_written_in_place_of_others_leave_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer("yolo", tmp_path)
    after(writer, "masks", "one mask")

    def full(path: Path, data: bytes) -> None:
        raise InputError(f"cannot write {str(path)!r}: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("superlink.decoders.writers.writer.save_picture", lambda pixels, path: full(path, b""))
        with pytest.raises(InputError, match="No space left"):
            ADDED["boxes"](writer)
    assert (writer.done, writer.failed) == ({"a.png"}, {})
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["a.png"]
    assert after(writer, "boxes") == after(open_writer("yolo", tmp_path / "new"), "masks", "boxes")


def test_a_picture_that_another_format_shows_stays_until_that_gives_it_up(tmp_path: Path) -> None:
    yolo, coco = open_writer("yolo", tmp_path), open_writer("coco", tmp_path, pictures=True)
    for writer in (yolo, coco):
        after(writer, "masks")
    assert "images/a.png" in after(yolo, "error")
    assert "images/a.png" not in after(coco, "error")


def test_a_record_that_names_files_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    writer = open_writer("yolo", tmp_path / "out")
    after(writer, "masks")
    (path,) = (tmp_path / "out" / ".records" / "yolo").iterdir()
    path.write_text(path.read_text().replace("labels/a.txt", "../mine.txt"))
    with pytest.raises(InputError, match="it names files outside of the folder"):
        after(open_writer("yolo", tmp_path / "out"), "error")
    assert (tmp_path / "mine.txt").exists()


class _Label:
    """Keeps what FiftyOne's classes are made of."""

    def __init__(self, **given: Any) -> None:
        self.given = given


class _Sample(dict[str, Any]):
    def __init__(self, *, filepath: str) -> None:
        super().__init__(filepath=filepath)


def fake_fiftyone() -> tuple[ModuleType, dict[str, Any]]:
    """The calls that are made of FiftyOne, after its own documentation; and its datasets."""
    known: dict[str, Any] = {}
    module = ModuleType("fiftyone")

    class Dataset:
        def __init__(self, name: str, *, persistent: bool, overwrite: bool) -> None:
            assert persistent
            assert overwrite or name not in known
            self.name, self.samples, self.info = name, list[_Sample](), dict[str, str]()
            known[name] = self

        def add_samples(self, samples: list[_Sample]) -> None:
            self.samples += samples

        def save(self) -> None:
            assert known[self.name] is self

    for name in ("Detection", "Detections", "Keypoint", "Keypoints"):
        setattr(module, name, type(name, (_Label,), {}))
    for name, value in {
        "Dataset": Dataset,
        "Sample": _Sample,
        "dataset_exists": known.__contains__,
        "load_dataset": known.__getitem__,
    }.items():
        setattr(module, name, value)
    return module, known


def test_fiftyone_gets_shares_of_the_sides_and_masks_of_the_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, datasets = fake_fiftyone()
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    for _ in range(2):  # the second run replaces what the first one made
        written(open_writer("fiftyone", tmp_path / "talk"), {"a.jpg": [boxes(1), masks(2), keypoints()]})
    (sample,) = datasets["talk"].samples
    with pytest.raises(InputError, match="FiftyOne has another dataset 'talk' already"):
        open_writer("fiftyone", tmp_path / "elsewhere", dataset="talk")
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
