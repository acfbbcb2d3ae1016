"""Conversations in LLaVA's layout as training samples: captions, questions, dialogues about pictures.

    LlavaSamples("llava_instruct.json", "train2017")[0]

A record: {"id": ..., "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat is
this?"}, {"from": "gpt", "value": "A dog."}, ...]}. `image` may be a list, or missing where words alone are
meant; the n-th <image> of the conversation is the n-th picture. Every answer is learned. Source: Liu et al.
2023, "Visual Instruction Tuning".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.router.tokens import GROUND_END, GROUND_START, IMAGE, PHRASE_END, PHRASE_START, ROUTING_TEXTS
from superlink.workflows.data.records import checked_records, picture_file, pixels_of
from superlink.workflows.data.samples import Sample

ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
# In an answer these would ask a decoder for something that the record does not hold.
_MARKUP = (*ROUTING_TEXTS, PHRASE_START, PHRASE_END, GROUND_START, GROUND_END)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialogue:
    turns: tuple[_Turn, ...]
    where: str


class LlavaSamples:
    """One sample a record; implements `Dataset`.

    Args:
        path: a JSON list, or JSON lines.
        images: folder that file names start from.
        skip_bad: leave out records that cannot be used; `skipped` then says why.

    Raises:
        DataError: a record that cannot be used, or none that can.
    """

    def __init__(self, path: str | Path, images: str | Path, *, skip_bad: bool = False) -> None:
        folder = Path(images)

        def check(where: str, record: Mapping[str, Any]) -> _Dialogue:
            return _dialogue(where, record, folder)

        self._items, self.skipped = checked_records(Path(path), check, skip_bad=skip_bad)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        item = self._items[index]
        messages = tuple(
            Message(
                role=turn.role,
                text=turn.text,
                images=tuple(pixels_of(item.where, path) for path in turn.pictures),
            )
            for turn in item.turns
        )
        pictures = [image for message in messages for image in message.images]
        return Sample(
            conversation=messages,
            image=pictures[-1] if pictures else None,
            targets=(),
            task="conversation",
            source=item.where,
        )


def _dialogue(where: str, record: Mapping[str, Any], folder: Path) -> _Dialogue:
    names = record.get("image")
    listed = names if isinstance(names, list) else [] if names is None else [names]
    pictures = [picture_file(where, folder, name) for name in listed]
    said = record.get("conversations")
    if not isinstance(said, list) or not said:
        raise DataError(f"{where}: 'conversations' is {said!r}, expected a list of turns")
    turns: list[_Turn] = []
    used = 0
    for number, one in enumerate(said, start=1):
        role, text = _spoken(f"{where}, turn {number}", one)
        count = text.count(IMAGE) if role == "user" else 0
        turns.append(
            _Turn(
                role=role,
                text=_without_marks(text) if role == "user" else text.strip(),
                pictures=tuple(pictures[used : used + count]),
            )
        )
        used += count
    if used != len(pictures):
        raise DataError(f"{where}: has {len(pictures)} pictures, but {used} {IMAGE} in what the human says")
    _check_order(where, turns)
    return _Dialogue(turns=tuple(turns), where=where)


def _spoken(where: str, turn: Any) -> tuple[Literal["system", "user", "assistant"], str]:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise DataError(f'{where}: is {turn!r}, expected {{"from": "human" or "gpt", "value": words}}')
    if turn.get("from") not in ROLES:
        raise DataError(f"{where}: comes from {turn.get('from')!r}, expected 'human' or 'gpt'")
    role, text = ROLES[turn["from"]], turn["value"]
    if not text.strip():
        raise DataError(f"{where}: is empty")
    if role == "assistant":
        marks = [mark for mark in _MARKUP if mark in text]
        if marks:
            raise DataError(
                f"{where}: the answer has {marks[0]!r}, which asks a decoder for something that this "
                f"format cannot hold; use a COCO file or edit pairs"
            )
    return role, text


def _without_marks(text: str) -> str:
    """Pictures stand before the words of their message, wherever they were mentioned."""
    lines = (" ".join(line.split()) for line in text.replace(IMAGE, " ").split("\n"))
    return "\n".join(line for line in lines if line)


def _check_order(where: str, turns: list[_Turn]) -> None:
    roles = [turn.role for turn in turns]
    rest = roles[1:] if roles[0] == "system" else roles
    if not rest or len(rest) % 2 or rest != ["user", "assistant"] * (len(rest) // 2):
        raise DataError(
            f"{where}: human and gpt must take turns, from a question to an answer; found {', '.join(roles)}"
        )
