"""Pictures before and after an edit, with the words that ask for it, as training samples.

    EditSamples("edits/")[0]

A folder with pictures and one file of JSON lines: {"original_image": "1_before.png", "edit_prompt": "make it
snow", "edited_image": "1_after.png"}. The names `source_image`, `instruction`, `target_image` are read as
well. Source of the layout: Brooks et al. 2023, "InstructPix2Pix", as published for diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from superlink.decoders.artifacts import Picture
from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.router.tokens import SPECIAL_TOKENS
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.records import checked_records, first_of, picture_file, pixels_of
from superlink.workflows.data.samples import Sample, Target

BEFORE = ("original_image", "source_image", "input_image")
WORDS = ("edit_prompt", "instruction", "edit")
AFTER = ("edited_image", "target_image", "output_image")
OPENINGS = ("", "", "", "Please ", "Edit the picture: ", "Change the picture: ", "Edit this: ", "Now ")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    before: Path
    after: Path
    words: str
    where: str


class EditSamples:
    """One sample a pair; implements `Dataset`.

    Args:
        path: the file of JSON lines, or a folder that holds exactly one.
        images: folder that file names start from; None = the file's own.
        seed: of what stands before the instruction.
        skip_bad: leave out records that cannot be used; `skipped` then says why.

    Raises:
        DataError: a record that cannot be used, or none that can.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path | None = None,
        *,
        seed: int = 0,
        skip_bad: bool = False,
    ) -> None:
        file = _file_of(Path(path))
        folder = file.parent if images is None else Path(images)

        def check(where: str, record: Mapping[str, Any]) -> _Pair:
            return _Pair(
                before=picture_file(where, folder, first_of(record, BEFORE, where)),
                after=picture_file(where, folder, first_of(record, AFTER, where)),
                words=_words(where, first_of(record, WORDS, where)),
                where=where,
            )

        self._items, self.skipped = checked_records(file, check, skip_bad=skip_bad)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        pair = self._items[index]
        opening = Random(f"edits:{self._seed}:{index}").choice(OPENINGS)
        before = pixels_of(pair.where, pair.before)
        after = Picture(pixels=pixels_of(pair.where, pair.after))
        return Sample(
            conversation=(
                Message(role="user", text=opening + pair.words, images=(before,)),
                Message(role="assistant", text=answer([("[EDIT]", pair.words)])),
            ),
            image=before,
            targets=(Target(token="[EDIT]", artifact=after),),
            task="edit",
            source=pair.where,
        )


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.jsonl"))
    if len(files) != 1:
        raise DataError(f"{path}: a folder of edits holds one .jsonl file, found {len(files)}")
    return files[0]


def _words(where: str, words: object) -> str:
    """The instruction in one line, without the full stop that an answer would double."""
    said = " ".join(words.split()).rstrip(".") if isinstance(words, str) else ""
    if not said:
        raise DataError(f"{where}: the instruction is {words!r}, expected words")
    marks = [token for token in SPECIAL_TOKENS if token in said]
    if marks:
        raise DataError(f"{where}: the instruction has {marks[0]!r}, which is kept for the router")
    return said
