"""A turn: what one question to the system gave, ready to read, draw, save and pass on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from superlink.agents.pictures import SourcePicture
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture, Text
from superlink.decoders.contract import Failure
from superlink.decoders.export import to_json
from superlink.decoders.files import write_whole
from superlink.router.errors import InputError

Kind = TypeVar("Kind", Boxes, Masks, Keypoints, Picture, Text)
Items = TypeVar("Items", Boxes, Masks, Keypoints)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """Artifacts are in reply order; a decoder that failed is in `failures`, never an exception."""

    text: str  # for people: no special tokens
    raw: str  # as the router wrote it, with routing tokens and phrase tags
    artifacts: tuple[Artifact, ...] = ()
    failures: tuple[Failure, ...] = ()
    image: SourcePicture | None = None  # what the artifacts speak of
    round: int = 0  # of its session, from 1; 0 outside a session
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds of the router and each decoder
    cut: bool = False  # the reply was longer than was allowed: its end is missing
    error: str = ""  # why nothing was asked, in a batch whose other questions went on

    def first(self, kind: type[Kind]) -> Kind:
        """The first artifact of a kind.

        Raises:
            InputError: the turn has none.
        """
        for artifact in self.artifacts:
            if isinstance(artifact, kind):
                return artifact
        have = ", ".join(type(artifact).__name__ for artifact in self.artifacts) or "no artifacts"
        raise InputError(f"this turn has no {kind.__name__}, it has {have}; its text is {self.text!r}")

    @property
    def boxes(self) -> Boxes:
        """The first boxes of the reply; without any, an empty `Boxes`."""
        return self._first_or_none(Boxes)

    @property
    def masks(self) -> Masks:
        """The first masks of the reply; without any, an empty `Masks`."""
        return self._first_or_none(Masks, masks=np.zeros((0, *self._size), np.bool_))

    @property
    def keypoints(self) -> Keypoints:
        """The first keypoints of the reply; without any, an empty `Keypoints`."""
        return self._first_or_none(Keypoints, xyv=np.zeros((0, 0, 3), np.float32), keypoint_names=())

    def _first_or_none(self, kind: type[Items], **own: Any) -> Items:
        """The first artifact of a kind, else one without items; `own` are the rows of that kind alone."""
        if any(isinstance(artifact, kind) for artifact in self.artifacts):
            return self.first(kind)
        rows: dict[str, Any] = {
            "xyxy": np.zeros((0, 4), np.float32),
            "scores": np.zeros(0, np.float32),
            "labels": np.zeros(0, np.int64),
        }
        return kind(**rows, **own, names=(), size=self._size)

    @property
    def picture(self) -> Picture | None:
        """The first picture that a decoder made."""
        made = (artifact for artifact in self.artifacts if isinstance(artifact, Picture))
        return next(made, None)

    @property
    def _size(self) -> tuple[int, int]:
        return (0, 0) if self.image is None else self.image.size

    def draw(self) -> Picture:
        """The picture with every box, mask and keypoint drawn on it; pictures that were made, beside it.

        Raises:
            InputError: the turn has no picture to draw on and made none.
        """
        from superlink.decoders.draw import draw, side_by_side  # brings supervision along

        made = [artifact for artifact in self.artifacts if isinstance(artifact, Picture)]
        if self.image is not None:
            return side_by_side([draw(self.image.pixels, self.artifacts), *made])
        if not made:
            raise InputError("this turn has no picture to draw on; ask with image=")
        return side_by_side(made)

    def save(self, folder: str | os.PathLike[str], *, stem: str | None = None) -> dict[str, Path]:
        """Write what the turn gave: `<stem>-drawn.png`, `<stem>.json`, and pictures it made.

        Every file appears complete or not at all. `stem` is by default the picture's own name.

        Returns:
            What was written, by what it is: "drawn", "json" and the ids of pictures.

        Raises:
            InputError: the folder cannot be made or written to.
        """
        target = Path(folder)
        stem = stem or (Path(self.image.name).stem if self.image and self.image.name else "turn")
        written: dict[str, Path] = {}
        for artifact in self.artifacts:
            if isinstance(artifact, Picture):
                name = artifact.origin.id
                written[name] = artifact.save(target / f"{stem}-{name}.png")
        if self.image is not None:
            written["drawn"] = self.draw().save(target / f"{stem}-drawn.png")
        line = json.dumps(self.to_json({name: os.fspath(path) for name, path in written.items()}))
        written["json"] = write_whole(target / f"{stem}-turn.json", line.encode() + b"\n")
        return written

    def to_json(self, pictures: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Plain data, as `superlink ask --json` prints it.

        Args:
            pictures: where pictures that a decoder made were written, by artifact id.
        """
        data: dict[str, Any] = {
            "image": None if self.image is None else self.image.name or self.image.id,
            "text": self.text,
            "failures": [asdict(failure) for failure in self.failures],
            "artifacts": [
                to_json(artifact, path=(pictures or {}).get(artifact.origin.id))
                for artifact in self.artifacts
            ],
            "timings": {name: round(seconds, 4) for name, seconds in self.timings.items()},
        }
        return data | ({"cut": True} if self.cut else {}) | ({"error": self.error} if self.error else {})
