"""What a path holds is found out, and checked before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from superlink.router.errors import DataError, InputError
from superlink.workflows.data.checking import SkipsBad, check_data, open_checked
from superlink.workflows.data.formats import DataFile, open_data, recognise
from superlink.workflows.data.samples import Sample
from tests.workflows.data import test_coco_keypoints, test_edit_pairs, test_llava
from tests.workflows.data.test_coco import coco, referring
from tests.workflows.data.test_coco import write as write_coco

ALL = ("[DET]", "[GRD]", "[SEG]", "[POSE]", "[EDIT]")


def accepts(sample: Sample) -> None:
    """Every sample is fine."""


def written(kind: str, folder: Path) -> Path:
    """The records of a format, beside their pictures."""
    if kind == "coco":
        data = coco()
        del data["annotations"][2]  # it has no outline
        return write_coco(folder, data)
    if kind == "refcoco":
        return write_coco(folder, referring())
    if kind == "coco-keypoints":
        return test_coco_keypoints.write(folder, test_coco_keypoints.poses())
    if kind == "llava":
        return test_llava.write(folder, test_llava.GOOD)
    return test_edit_pairs.write(folder, [test_edit_pairs.PAIR]) / "metadata.jsonl"


KINDS = ("coco", "refcoco", "coco-keypoints", "llava", "edits")


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_found_out_from_a_file_and_from_its_folder(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    data = recognise(path)
    assert (data.path, data.format, data.images) == (path, kind, tmp_path)
    assert recognise(tmp_path) == data
    assert path.name in open_data(data, ALL)[0].source


@pytest.mark.parametrize("place", ["pictures", "../train2017"])
def test_pictures_are_found_in_folders_around_the_file(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    pictures = folder / place
    for one in (folder, pictures, tmp_path / "another"):
        one.mkdir(parents=True, exist_ok=True)
    path = write_coco(folder, coco())
    for picture in list(folder.glob("*.png")):
        picture.rename(pictures / picture.name)
    assert recognise(path).images.resolve() == pictures.resolve()
    assert recognise(tmp_path).path == path


def test_a_path_that_means_nothing_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no data at '.*gone'"):
        recognise(tmp_path / "gone")
    with pytest.raises(InputError, match=r"holds no \.json or \.jsonl file"):
        recognise(tmp_path)
    (tmp_path / "a.json").write_text('[{"what": 1}]')
    with pytest.raises(DataError, match=r"a\.json: is none of the known formats \(coco, coco-keypoints, ref"):
        recognise(tmp_path / "a.json")
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"holds 2 files of records \(a\.json, b\.jsonl\); name one"):
        recognise(tmp_path)
    path = tmp_path / "lost.jsonl"
    path.write_text(json.dumps({"image": "x.png", "conversations": []}))
    with pytest.raises(DataError, match=r"its pictures \('x\.png', \.\.\.\) are neither in .*--images"):
        recognise(path)
    with pytest.raises(InputError, match=r"there is no folder '.*gone' for the pictures"):
        recognise(path, images=tmp_path / "gone")
    with pytest.raises(InputError, match="no format 'voc'; there are coco, "):
        recognise(path, as_format="voc", images=tmp_path)


@pytest.mark.parametrize("text", ['{"images": [{"id": 1, "file_na', "[1, 2", ""])
def test_json_that_is_cut_off_is_said_to_be(text: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"boxes\.json: is neither JSON nor JSON lines: .*; was it cut off\?"):
        recognise(path)


@pytest.mark.parametrize(
    ("kind", "answered", "tasks"),
    [
        ("coco", ALL, {"detect", "segment"}),
        ("coco", ("[DET]",), {"detect"}),
        ("coco", ("[SEG]",), {"segment"}),
        ("refcoco", ("[GRD]", "[DET]"), {"ground"}),
        ("refcoco", ALL, {"ground", "segment"}),
        ("coco-keypoints", ALL, {"keypoints"}),
        ("llava", (), {"conversation"}),
    ],
)
def test_only_what_the_model_answers_is_asked_for(
    kind: str, answered: tuple[str, ...], tasks: set[str], tmp_path: Path
) -> None:
    data = recognise(written(kind, tmp_path))
    found = set()
    for seed in range(30):
        found.add(open_data(data, answered, seed=seed)[0].task)
    assert found == tasks


def test_a_file_that_the_model_cannot_learn_is_refused(tmp_path: Path) -> None:
    data = recognise(written("edits", tmp_path))
    with pytest.raises(InputError, match=r"edits needs a decoder for \[EDIT\]; this model answers \[DET\]$"):
        open_data(data, ("[DET]",))
    boxes = DataFile(path=write_coco(tmp_path, coco()), format="coco", images=tmp_path)
    with pytest.raises(InputError, match="has no outlines"):
        open_data(boxes, ("[SEG]",))


def damaged(folder: Path) -> DataFile:
    """Ten good lines, a line that is no record and one whose picture is damaged."""
    records: list[Any] = [test_llava.GOOD[1]] * 10
    path = test_llava.write(folder, [*records, {"id": 3}, test_llava.GOOD[0]])
    (folder / "a.png").write_text("no picture")
    return recognise(path, images=folder)


def test_the_check_counts_tasks_and_names_bad_records(tmp_path: Path) -> None:
    data = damaged(tmp_path)
    report = check_data(data, ALL, accepts)
    assert (report.samples, report.tried, report.tasks) == (11, 11, {"conversation": 10})
    assert [reason.split(":")[0] for reason in report.bad] == ["talk.jsonl, line 11", "talk.jsonl, line 12"]
    assert report.left_out == {10}
    first, second, third = report.lines(most_bad=1)
    assert first.endswith("talk.jsonl: llava, 11 samples: 10 conversation")
    assert second.startswith("  bad: talk.jsonl, line 11: 'conversations' is None")
    assert third == "  and 1 more"


def test_the_check_tries_some_of_many_evenly_and_names_what_does_not_fit(tmp_path: Path) -> None:
    tried = []

    def fits(sample: Sample) -> None:
        tried.append(sample.source)
        if sample.source.endswith("line 7"):
            raise InputError("too long")

    report = check_data(damaged(tmp_path), ALL, fits, most=4)
    assert tried == [f"talk.jsonl, line {number}" for number in (1, 3, 6, 9)]
    assert report.lines()[0].endswith("11 samples: 4 conversation (of 4 that were tried)")
    whole = check_data(damaged(tmp_path), ALL, fits)
    assert "talk.jsonl, line 7: too long" in whole.bad
    assert whole.left_out == {6, 10}


def test_samples_that_cannot_be_used_give_way_to_the_next(tmp_path: Path) -> None:
    data = damaged(tmp_path)
    samples = open_checked(data, ALL, skip_bad=True, left_out=frozenset({1, 2}))
    assert isinstance(samples, SkipsBad)
    assert len(samples) == 11
    sources = [samples[index].source for index in (0, 1, 2, 3, 10)]
    assert sources == [f"talk.jsonl, line {number}" for number in (1, 4, 4, 4, 1)]
    with pytest.raises(DataError, match=r"none of 11 samples can be used; the last: .*line 12"):
        SkipsBad(open_data(data, ALL, skip_bad=True), range(10))[0]
    with pytest.raises(DataError, match="line 11"):
        open_checked(data, ALL)


def test_samples_that_were_not_tried_give_way_too_where_they_do_not_fit(tmp_path: Path) -> None:
    tried: list[str] = []

    def fits(sample: Sample) -> None:
        tried.append(sample.source)
        if sample.source.endswith("line 7"):
            raise InputError("too long")

    samples = open_checked(damaged(tmp_path), ALL, skip_bad=True, fits=fits)
    lines = [samples[index].source for index in (5, 6, 7, 5, 6, 7)]
    assert lines == [f"talk.jsonl, line {number}" for number in (6, 8, 8, 6, 8, 8)]
    assert tried == [f"talk.jsonl, line {number}" for number in (6, 7, 8)]  # once, not every epoch
    with pytest.raises(
        DataError, match=r"none of 11 samples can be used; the last: talk\.jsonl, line 7: too"
    ):
        open_checked(damaged(tmp_path), ALL, skip_bad=True, left_out=frozenset(range(11)) - {6}, fits=fits)[0]


def test_a_name_longer_than_the_disk_takes_is_the_fault_of_its_record(tmp_path: Path) -> None:
    path = test_llava.write(tmp_path, [dict(test_llava.GOOD[0], image="a" * 300), test_llava.GOOD[0]])
    data = recognise(path)
    with pytest.raises(DataError, match=r"talk\.jsonl, line 1: the picture 'a+\.\.\.a+' cannot be looked up"):
        open_data(data, ALL)
    assert len(open_data(data, ALL, skip_bad=True)) == 1
