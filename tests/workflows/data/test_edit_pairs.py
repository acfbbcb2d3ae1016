from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion import InstructPix2PixConfig
from superlink.router.errors import DataError
from superlink.workflows.data.edit_pairs import EditSamples
from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.train.plan import plan_calls, routing_tokens

PAIR = {"original_image": "a.png", "edit_prompt": "make it  red.", "edited_image": "b.png"}
OTHER = {"source_image": "b.png", "instruction": "make it blue", "target_image": "a.png"}


def write(folder: Path, records: list[Any]) -> Path:
    Image.new("RGB", (8, 6), (0, 0, 255)).save(folder / "a.png")
    Image.new("RGB", (8, 6), (255, 0, 0)).save(folder / "b.png")
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder


def test_a_pair_asks_for_the_edited_picture_in_its_words(tmp_path: Path) -> None:
    samples = EditSamples(write(tmp_path, [PAIR, OTHER]))
    assert len(samples) == 2
    for index, (words, before, after) in enumerate(
        [("make it red", (0, 0, 255), (255, 0, 0)), ("make it blue", (255, 0, 0), (0, 0, 255))]
    ):
        sample = samples[index]
        (target,) = sample.targets
        assert isinstance(target.artifact, Picture)
        assert expected_routing(sample) == (("[EDIT]", words),)
        assert sample.conversation[0].text.endswith(words)
        assert sample.image is not None
        assert np.unique(sample.image.reshape(-1, 3), axis=0).tolist() == [list(before)]
        assert np.unique(target.artifact.pixels.reshape(-1, 3), axis=0).tolist() == [list(after)]
        assert sample.source == f"metadata.jsonl, line {index + 1}"


def test_a_sample_plans_one_call_of_the_editor(tmp_path: Path) -> None:
    config = InstructPix2PixConfig()
    sample = EditSamples(write(tmp_path, [PAIR]))[0]
    (planned,) = plan_calls(sample, {config.name: config}, routing_tokens([config]))
    assert (planned.decoder, planned.call.names) == (config.name, ("make it red",))
    assert planned.call.image is sample.image


BAD = {
    "no picture before": ({**PAIR, "original_image": None}, "has no field 'original_image' or"),
    "a missing picture": ({**PAIR, "edited_image": "gone.png"}, "there is no picture '.*gone.png'"),
    "a picture that is a number": ({**PAIR, "edited_image": 3}, "the picture is 3, expected a file name"),
    "no words": ({**PAIR, "edit_prompt": " . "}, "the instruction is ' . ', expected words"),
    "a special token": ({**PAIR, "edit_prompt": "add [DET]"}, r"has '\[DET\]', which is kept"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_record_is_named_with_file_and_line_and_can_be_skipped(what: str, tmp_path: Path) -> None:
    record, said = BAD[what]
    folder = write(tmp_path, [PAIR, record])
    with pytest.raises(DataError, match=rf"^metadata\.jsonl, line 2: .*{said}") as caught:
        EditSamples(folder)
    samples = EditSamples(folder, skip_bad=True)
    assert (len(samples), samples.skipped) == (1, (str(caught.value),))


def test_a_folder_without_records_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder of edits holds one \.jsonl file, found 0"):
        EditSamples(tmp_path)
