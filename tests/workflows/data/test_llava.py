from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from superlink.router.errors import DataError
from superlink.workflows.data.llava import LlavaSamples


def turns(*values: str, first: str = "human") -> list[dict[str, str]]:
    roles = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": roles[k % 2], "value": value} for k, value in enumerate(values)]


GOOD: list[dict[str, Any]] = [
    {"id": "a", "image": "a.png", "conversations": turns("<image>\nWhat is this?", "A blue square.")},
    {"id": "b", "conversations": turns("Hello", "Hi!", "How are you?", "Well.")},
    {
        "id": "c",
        "image": ["a.png", "b.png"],
        "conversations": turns("What is  here?\n<image>", "Blue.", "And here? <image>", "Red."),
    },
]


def write(folder: Path, records: list[Any], *, lines: bool = True) -> Path:
    Image.new("RGB", (8, 6), (0, 0, 255)).save(folder / "a.png")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "b.png")
    path = folder / ("talk.jsonl" if lines else "talk.json")
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    path.write_text(text + "\n")
    return path


@pytest.mark.parametrize("lines", [True, False])
def test_conversations_keep_rounds_words_and_pictures(tmp_path: Path, lines: bool) -> None:
    samples = LlavaSamples(write(tmp_path, GOOD, lines=lines), tmp_path)
    found = [samples[index] for index in range(len(samples))]
    told = [[(m.role, m.text, len(m.images)) for m in sample.conversation] for sample in found]
    assert told == [
        [("user", "What is this?", 1), ("assistant", "A blue square.", 0)],
        [
            ("user", "Hello", 0),
            ("assistant", "Hi!", 0),
            ("user", "How are you?", 0),
            ("assistant", "Well.", 0),
        ],
        [
            ("user", "What is here?", 1),
            ("assistant", "Blue.", 0),
            ("user", "And here?", 1),
            ("assistant", "Red.", 0),
        ],
    ]
    assert [None if s.image is None else s.image.shape for s in found] == [(6, 8, 3), None, (4, 4, 3)]
    assert [sample.targets for sample in found] == [()] * 3
    place = "talk.jsonl, line 3" if lines else "talk.json, record 2 (id 'c')"
    assert found[2].source == place


BAD = {
    "no conversation": ({"image": "a.png"}, "'conversations' is None"),
    "a missing picture": (
        {"image": "gone.png", "conversations": turns("<image>", "No.")},
        "there is no picture '.*gone.png'",
    ),
    "a picture that is never meant": (
        {"image": "a.png", "conversations": turns("What?", "That.")},
        "has 1 pictures, but 0 <image>",
    ),
    "a mark without picture": ({"conversations": turns("<image>", "That.")}, "has 0 pictures, but 1 <image>"),
    "an unknown speaker": (
        {"conversations": [{"from": "robot", "value": "x"}]},
        "turn 1: comes from 'robot', expected 'human' or 'gpt'",
    ),
    "no turn": ({"conversations": ["hello"]}, "turn 1: is 'hello'"),
    "an empty turn": ({"conversations": turns("Hi", " ")}, "turn 2: is empty"),
    "a question without answer": (
        {"conversations": turns("Hi", "Ho", "Hey")},
        "must take turns, from a question to an answer; found user, assistant, user",
    ),
    "an answer first": ({"conversations": turns("Hi", "Ho", first="gpt")}, "must take turns"),
    "a routing token": ({"conversations": turns("Hi", "A <det>dog</det>[DET].")}, r"turn 2: .*'\[DET\]'"),
    "no object": (7, "expected an object, got int"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_record_is_named_with_file_and_line_and_can_be_skipped(what: str, tmp_path: Path) -> None:
    record, said = BAD[what]
    path = write(tmp_path, [GOOD[0], record])
    with pytest.raises(DataError, match=rf"^talk\.jsonl, line 2.*{said}") as caught:
        LlavaSamples(path, tmp_path)
    assert "\n" not in str(caught.value)
    samples = LlavaSamples(path, tmp_path, skip_bad=True)
    assert (len(samples), samples.skipped) == (1, (str(caught.value),))


def test_a_line_that_is_no_json_is_named_by_its_number(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD[0], GOOD[1]])
    path.write_text(path.read_text() + '\n{"id": \n')
    with pytest.raises(DataError, match=r"talk\.jsonl, line 4: is not JSON"):
        LlavaSamples(path, tmp_path)
    assert len(LlavaSamples(path, tmp_path, skip_bad=True)) == 2


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        LlavaSamples(tmp_path / "gone.json", tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(DataError, match=r"latin\.jsonl: is not UTF-8 text"):
        LlavaSamples(tmp_path / "latin.jsonl", tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no record that can be used"):
        LlavaSamples(tmp_path / "empty.jsonl", tmp_path)


def test_a_damaged_picture_is_named_when_its_sample_is_read(tmp_path: Path) -> None:
    samples = LlavaSamples(write(tmp_path, GOOD), tmp_path)
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"talk\.jsonl, line 1: .*not a picture"):
        samples[0]
