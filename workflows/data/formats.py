"""Which format a path of the user's is in, where its pictures are, and what can be learned from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

from superlink.router.errors import DataError, InputError
from superlink.workflows.data.coco import ClassTask, CocoSamples
from superlink.workflows.data.coco_keypoints import KeypointSamples
from superlink.workflows.data.edit_pairs import AFTER, BEFORE, EditSamples
from superlink.workflows.data.llava import LlavaSamples
from superlink.workflows.data.records import text_of
from superlink.workflows.data.refcoco import RefCocoSamples, ReferringTask
from superlink.workflows.data.samples import Dataset

Format = Literal["coco", "coco-keypoints", "refcoco", "llava", "edits"]
FORMATS: dict[str, Format] = {name: name for name in get_args(Format)}

# Routing tokens of which a model must answer at least one, or all of them for keypoints.
NEEDS: Mapping[Format, tuple[str, ...]] = {
    "coco": ("[DET]", "[SEG]"),
    "coco-keypoints": ("[POSE]",),
    "refcoco": ("[GRD]", "[SEG]"),
    "llava": (),
    "edits": ("[EDIT]",),
}
_LOOKED_AT = 20  # records whose pictures say which folder is meant


class SkippingDataset(Dataset, Protocol):
    """A dataset that can leave records out."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Why records were left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file of records in a known format."""

    path: Path
    format: Format
    images: Path  # folder that its file names start from
    masks: bool = False  # its objects have outlines
    most_keypoints: int = 68  # of one sample


def recognise(
    path: str | Path, *, as_format: str | None = None, images: str | Path | None = None
) -> DataFile:
    """Find out what a path holds.

    Args:
        path: a file, or a folder with exactly one file of records, in itself or in `annotations`.
        as_format: in place of finding it out.
        images: folder of the pictures; None = the folder around in which most of them are.

    Raises:
        InputError: no such path, or a folder in which no single file is meant.
        DataError: none of the known formats, or the pictures are nowhere.
    """
    file = _file_of(Path(path).absolute())  # workers may stand in another folder
    data, first = _opened(file)
    if as_format is None:
        found = _format_of(file, data, first)
    elif as_format in FORMATS:
        found = FORMATS[as_format]
    else:
        raise InputError(f"no format {as_format!r}; there are {', '.join(FORMATS)}")
    names = _picture_names(found, data, first)
    folder = _folder_of(file, names) if images is None else Path(images).absolute()
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r} for the pictures of {file.name}")
    rows = data.get("annotations") if isinstance(data, dict) else None
    masks = isinstance(rows, list) and any(isinstance(row, dict) and row.get("segmentation") for row in rows)
    return DataFile(path=file, format=found, images=folder, masks=masks)


def open_data(
    data: DataFile, answered: Collection[str], *, seed: int = 0, skip_bad: bool = False
) -> SkippingDataset:
    """The samples of a file that a model can learn.

    Args:
        answered: texts of the routing tokens that the model's decoders answer.
        seed: of wordings and class lists.
        skip_bad: leave out records that cannot be used.

    Raises:
        InputError: no decoder of the model answers what the file teaches.
        DataError: a record that cannot be used, or none that can.
    """
    check_answered(data, NEEDS[data.format], answered)
    path, images = data.path, data.images
    if data.format == "coco":
        classes: list[tuple[ClassTask, str]] = [("detect", "[DET]"), ("segment", "[SEG]")]
        tasks = _possible(data, classes, answered)
        return CocoSamples(path, images, tasks=tasks, seed=seed, skip_bad=skip_bad)
    if data.format == "refcoco":
        objects: list[tuple[ReferringTask, str]] = [("ground", "[GRD]"), ("segment", "[SEG]")]
        kinds = _possible(data, objects, answered)
        return RefCocoSamples(path, images, tasks=kinds, seed=seed, skip_bad=skip_bad)
    if data.format == "coco-keypoints":
        return KeypointSamples(path, images, seed=seed, most_keypoints=data.most_keypoints, skip_bad=skip_bad)
    if data.format == "llava":
        return LlavaSamples(path, images, skip_bad=skip_bad)
    return EditSamples(path, images, seed=seed, skip_bad=skip_bad)


def check_answered(data: DataFile, needs: Sequence[str], answered: Collection[str]) -> None:
    """Whether a model answers any of the routing tokens that are needed.

    Raises:
        InputError: none of them.
    """
    if needs and not set(needs) & set(answered):
        raise InputError(
            f"{data.path.name}: {data.format} needs a decoder for {' or '.join(needs)}; this model answers "
            f"{', '.join(sorted(answered)) or 'no routing token'}"
        )


Task = TypeVar("Task", bound=str)


def _possible(
    data: DataFile, tasks: Sequence[tuple[Task, str]], answered: Collection[str]
) -> tuple[Task, ...]:
    """Tasks whose token is answered; masks only where the file has outlines."""
    chosen = tuple(task for task, token in tasks if token in answered and (data.masks or token != "[SEG]"))
    if not chosen:
        raise InputError(f"{data.path.name}: has no outlines, and masks are all that this model could learn")
    return chosen


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"there is no data at {str(path)!r}; check the path")
    for folder in (path, path / "annotations"):
        files = sorted([*folder.glob("*.jsonl"), *folder.glob("*.json")])
        if len(files) == 1:
            return files[0]
        if files:
            names = ", ".join(file.name for file in files[:4])
            raise InputError(
                f"{str(folder)!r} holds {len(files)} files of records ({names}); name one of them"
            )
    raise InputError(f"{str(path)!r} holds no .json or .jsonl file; name the file of records")


def _opened(file: Path) -> tuple[Any, list[Mapping[str, Any]]]:
    """The parsed file, None for JSON lines; its first records."""
    text = text_of(file)
    try:
        data = json.loads(text)
    except ValueError as error:
        records = _objects(_lines(text))
        if not records:
            raise DataError(f"{file}: is neither JSON nor JSON lines: {error}; was it cut off?") from error
        return None, records
    if isinstance(data, dict) and isinstance(data.get("images"), list):
        return data, _objects(data["images"])
    if isinstance(data, list):
        return data, _objects(data)
    return None, _objects(_lines(text))


def _objects(records: Sequence[Any] | Iterator[Any]) -> list[Mapping[str, Any]]:
    found = (record for record in records if isinstance(record, dict))
    return [record for record, _ in zip(found, range(_LOOKED_AT), strict=False)]


def _lines(text: str) -> Iterator[Any]:
    """Lines that are JSON; the reader names the others."""
    for line in text.split("\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _format_of(file: Path, data: Any, first: Sequence[Mapping[str, Any]]) -> Format:
    if isinstance(data, dict) and isinstance(data.get("categories"), list):
        if any("expressions" in record for record in first):
            return "refcoco"
        categories = data["categories"]
        if any(isinstance(record, dict) and record.get("keypoints") for record in categories):
            return "coco-keypoints"
        return "coco"
    if any("conversations" in record for record in first):
        return "llava"
    if any({*BEFORE} & record.keys() and {*AFTER} & record.keys() for record in first):
        return "edits"
    raise DataError(
        f"{file}: is none of the known formats ({', '.join(FORMATS)}): COCO needs images, annotations and "
        f"categories; JSON lines need 'conversations', or 'original_image' and 'edited_image'"
    )


def _picture_names(kind: Format, data: Any, first: Sequence[Mapping[str, Any]]) -> list[str]:
    fields = {"llava": ("image",), "edits": BEFORE}.get(kind, ("file_name",))
    named = [record.get(name) for record in first for name in fields]
    listed = [name for one in named for name in (one if isinstance(one, list) else [one])]
    return [name for name in listed if isinstance(name, str) and name]


def _folder_of(file: Path, names: Sequence[str]) -> Path:
    """The folder in or around the file's in which most of the pictures are."""
    here = file.parent
    above = here.parent
    inside = sorted(one for one in here.iterdir() if one.is_dir())
    beside = sorted(one for one in above.iterdir() if one.is_dir())
    if not names:
        return here
    best, most = here, 0
    for folder in (here, *inside, above, *beside):
        found = sum(_is_file(folder / name) for name in names)
        if found > most:
            best, most = folder, found
    if most == 0:
        raise DataError(
            f"{file}: its pictures ({names[0]!r}, ...) are neither in {str(here)!r} nor in a folder there or "
            f"beside it; say where with --images"
        )
    return best


def _is_file(path: Path) -> bool:
    """A name that the disk refuses to look up is none here; the reader names its record."""
    try:
        return path.is_file()
    except OSError:
        return False
