"""What the tools of an agent remember: pictures and artifacts, by the ids that the agent writes.

An id is "picture-1" or "boxes-2"; single items of an artifact are "boxes-2[0]" or "boxes-2[0,3]".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace

from superlink.agents.asking import kind_of
from superlink.agents.pictures import PictureLike, SourcePicture, picture_id, read_picture
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Picture, Text
from superlink.router.errors import InputError

_REFERENCE = re.compile(r"\s*([\w-]+)\s*(?:\[([\d\s,]+)\])?\s*")


class Store:
    """Pictures and artifacts by id. Safe to use from many threads."""

    def __init__(self) -> None:
        self._artifacts: dict[str, Artifact] = {}
        self._pictures: dict[str, SourcePicture] = {}  # by their names here
        self._named: dict[str, str] = {}  # content id of a picture → its first name
        self._counts: dict[str, int] = {}
        self._last = ""
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Every id, pictures first."""
        return (*self._pictures, *(name for name in self._artifacts if name not in self._pictures))

    @property
    def pictures(self) -> tuple[str, ...]:
        """The ids of pictures, in the order in which they came."""
        return tuple(self._pictures)

    def add(self, picture: PictureLike) -> str:
        """Remember a picture; one that is known keeps its id.

        Raises:
            InputError: it cannot be read.
        """
        read = read_picture(picture)
        with self._lock:
            name = self._named.get(read.id) or self._next("picture")
            self._named[read.id] = name
            self._pictures.setdefault(name, read)
            self._last = name
        return name

    def keep(self, turn: Turn) -> Turn:
        """Remember what a question gave.

        Returns:
            The turn whose artifacts have ids that nothing else here has.
        """
        with self._lock:
            named = tuple(
                replace(one, origin=replace(one.origin, id=self._next(kind_of(one))))
                for one in turn.artifacts
            )
            for one in named:
                self._artifacts[one.origin.id] = one
                if isinstance(one, Picture):
                    made = SourcePicture(pixels=one.pixels, id=picture_id(one.pixels), name=one.origin.id)
                    self._pictures[one.origin.id] = made
                    self._named.setdefault(made.id, one.origin.id)
                    self._last = one.origin.id
        return replace(turn, artifacts=named)

    def picture(self, name: str | None, refs: Sequence[Artifact] = ()) -> SourcePicture | None:
        """The picture of that id; without one that of `refs`, else the last one shown or made.

        Raises:
            InputError: no picture has this id.
        """
        if name is None:
            name = next((found for one in refs if (found := self._shows(one))), self._last)
            return self._pictures.get(name)
        wanted = str(name).strip()
        if wanted not in self._pictures:
            known = ", ".join(self._pictures) or "none yet"
            what = "an artifact, not a picture" if wanted in self._artifacts else "no known picture"
            raise InputError(f"{name!r} is {what}; the pictures are: {known}")
        return self._pictures[wanted]

    def artifact(self, reference: str) -> Artifact:
        """The artifact of that id, or single items of one.

        Raises:
            InputError: there is no such artifact, or it has no such items.
        """
        match = _REFERENCE.fullmatch(str(reference))
        if match is None:
            raise InputError(
                f"{reference!r} is no id of an artifact; write 'boxes-1', or 'boxes-1[0,2]' for items of it"
            )
        name, items = match.groups()
        found = self._artifacts.get(name)
        if found is None and name in self._pictures:
            shown = self._pictures[name]
            found = Picture(pixels=shown.pixels)
            found = replace(found, origin=replace(found.origin, id=name, source=shown.id))
        if found is None:
            raise InputError(f"there is no {name!r}; what is known: {', '.join(self.names) or 'nothing yet'}")
        if items is None:
            return found
        if isinstance(found, Picture | Text):
            raise InputError(f"{name!r} has no items to choose from; leave the brackets out")
        rows = [int(part) for part in items.replace(",", " ").split()]
        outside = [row for row in rows if row >= len(found)]
        if outside or not rows:
            has = f"items 0 to {len(found) - 1}" if len(found) else "no items"
            raise InputError(f"{name!r} has {has}, got {reference!r}")
        return found.select(rows)

    def name_of(self, picture: SourcePicture) -> str:
        """The id under which a picture is known here."""
        return self._named.get(picture.id, picture.name)

    def _shows(self, artifact: Artifact) -> str:
        if isinstance(artifact, Picture):
            return artifact.origin.id if artifact.origin.id in self._pictures else ""
        return self._named.get(artifact.origin.source, "")

    def _next(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}-{self._counts[kind]}"
