"""A toolbox: one system's tools over one memory of pictures and results.

Every call is a question of its own, so a call means the same whatever was called before, and calls
may run side by side; what ties them together are the ids of pictures and artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from superlink.agents.asking import Question, answer
from superlink.agents.pictures import PictureLike, SourcePicture, one_line, read_picture
from superlink.agents.questions import checked_deadline, checked_refs, user_message
from superlink.agents.tools.arguments import Arguments, Count, Segment
from superlink.agents.tools.budget import Budget, BudgetError, Meter, Spent
from superlink.agents.tools.describe import counted, describe
from superlink.agents.tools.specs import ToolSpec, available, spec_of
from superlink.agents.tools.store import Store
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture
from superlink.router.errors import InputError

if TYPE_CHECKING:
    from superlink.agents.system import System
    from superlink.agents.tools.langchain import SystemTool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolAnswer:
    """What a tool gives."""

    text: str  # for a language model: ids, counts, coordinates
    turn: Turn  # for the program; its artifacts have the ids of the text
    spent: Spent  # of the toolbox, or of the plan that called


class Toolbox:
    """The tools of a system and what they remember. Safe to use from many threads."""

    def __init__(
        self,
        system: System,
        *,
        pictures: Sequence[PictureLike] = (),
        folder: str | Path | None = None,
        budget: Budget | None = None,
        deadline: float | None = None,
        plain: bool = False,
    ) -> None:
        """A toolbox that knows `pictures` as "picture-1", "picture-2", ...

        Args:
            system: what answers.
            pictures: paths, bytes, Pillow images or arrays.
            folder: whose picture files tools may open by name; without one they know only what was
                added, so that no model reads files of this machine.
            budget: of all calls together.
            deadline: seconds that one call may take; what is not there by then becomes a failure.
            plain: messages of LangChain carry `Turn.to_json()` in place of the turn itself. For agents
                with a checkpointer, which would write every picture again at every step.

        Raises:
            InputError: a picture cannot be read, no such folder, or a budget or deadline that is none.
        """
        if not isinstance(pictures, list | tuple):
            raise InputError(f"pictures are a list, got {type(pictures).__name__} alone")
        if folder is not None and not Path(str(folder)).is_dir():
            raise InputError(f"there is no folder {str(folder)!r} for the tools to open pictures in")
        self.system = system
        self.meter = Meter(budget)
        self.plain = plain
        self._deadline = checked_deadline(deadline)
        self._folder = None if folder is None else Path(folder).resolve()
        self._store = Store()
        for picture in pictures:
            self.add(picture)

    @property
    def names(self) -> tuple[str, ...]:
        """The ids of all pictures and artifacts, as tools take them."""
        return self._store.names

    @property
    def pictures(self) -> tuple[str, ...]:
        """The ids of all pictures, in the order in which they came."""
        return self._store.pictures

    @property
    def specs(self) -> dict[str, ToolSpec]:
        """The tools that the system has decoders for, by name."""
        return available(self.system.decoders)

    def add(self, picture: PictureLike) -> str:
        """Show a picture to the tools; returns its id. One that is known keeps its id.

        Raises:
            InputError: it cannot be read.
        """
        return self._store.add(picture)

    def artifact(self, reference: str) -> Artifact:
        """The artifact called "boxes-1", or single items of it: "boxes-1[0,2]".

        Raises:
            InputError: there is none, or it has no such items.
        """
        return self._store.artifact(reference)

    def picture(self, name: str | None = None) -> SourcePicture:
        """The picture of an id or of a file in the folder, or the one that was shown or made last.

        A file is only looked at: the tools do not remember it until one of them opens it.

        Raises:
            InputError: there is none.
        """
        path = None if name is None else self._file(name)
        found = self._store.picture(name) if path is None else read_picture(path)
        if found is None:
            raise InputError("there is no picture yet; add one to the toolbox")
        return found

    def name_of(self, picture: SourcePicture) -> str:
        """The id under which the tools know a picture."""
        return self._store.name_of(picture)

    def tool(self, name: str) -> SystemTool:
        """One tool for LangChain, over this memory.

        Raises:
            InputError: no such tool, or no decoder for it.
        """
        from superlink.agents.tools.langchain import SystemTool  # brings langchain-core along

        return SystemTool.of(self, spec_of(name, self.system.decoders))

    def tools(self) -> list[SystemTool]:
        """Every tool that the system has decoders for."""
        return [self.tool(name) for name in self.specs]

    def run(
        self, tool: str, arguments: Mapping[str, Any] | None = None, *, meter: Meter | None = None
    ) -> ToolAnswer:
        """Call a tool by name, as a language model would.

        Args:
            tool: its name.
            arguments: by name, as its schema says.
            meter: one more budget that the call counts for.

        Raises:
            InputError: no such tool, arguments that it does not take, or an unknown id.
            BudgetError: the call would go over a budget.
            SuperlinkError: the system cannot answer now.
        """
        spec = spec_of(tool, self.system.decoders)
        return self.call(spec, checked(spec, arguments or {}), meter=meter)

    def call(self, spec: ToolSpec, given: Arguments, *, meter: Meter | None = None) -> ToolAnswer:
        """As `run`, with arguments that are checked already."""
        if isinstance(given, Count) and given.of is not None:
            return self._count_known(given.of)
        refs = self._refs(given)
        picture = self._looked_at(spec, given, refs)
        if isinstance(given, Segment) and not given.phrases:
            given = given.model_copy(update={"phrases": _names(refs)})
        if isinstance(given, Count) and not given.phrases:
            raise InputError("count needs `phrases` to look for, or `of`, the id of an earlier result")
        question = Question(
            conversation=(user_message(spec.sentence(given), picture=picture),),
            picture=picture,
            refs=checked_refs(refs, picture),
            threshold=getattr(given, "threshold", None),
        )
        meters = [self.meter] + ([] if meter is None else [meter])
        turn = self._asked(question, getattr(given, "seed", 0), meters)
        shown = "" if picture is None else self._store.name_of(picture)
        points = getattr(given, "keypoints", ())
        text = describe(turn, picture=shown, makes=spec.makes, keypoints=points)
        if isinstance(given, Count) and (boxes := [one for one in turn.artifacts if isinstance(one, Boxes)]):
            text = f"{counted(boxes[0])} on {shown}; they are {boxes[0].origin.id}"
        return ToolAnswer(text=text, turn=turn, spent=meters[-1].spent)

    def _asked(self, question: Question, seed: int, meters: Sequence[Meter]) -> Turn:
        """One question within the budgets; what it gives is remembered."""
        pixels = 0 if question.picture is None else int(np.prod(question.picture.size))
        limits = _started(meters, pixels)
        limits += [] if self._deadline is None else [self._deadline]
        question = replace(question, deadline=min(limits, default=None))
        start, made = time.monotonic(), 0
        try:
            (turn,) = answer(self.system.engine, [question], replace(self.system.options, seed=seed))
            pictures = [one for one in turn.artifacts if isinstance(one, Picture)]
            made = sum(int(np.prod(one.pixels.shape[:2])) for one in pictures)
        finally:
            for meter in meters:
                meter.finish(time.monotonic() - start, made)
        return self._store.keep(turn)

    def _refs(self, given: Arguments) -> tuple[Artifact, ...]:
        return tuple(self._store.artifact(reference) for reference in getattr(given, "refs", ()))

    def _looked_at(self, spec: ToolSpec, given: Arguments, refs: Sequence[Artifact]) -> SourcePicture | None:
        if not spec.looks:
            return None
        name: str | None = getattr(given, "picture", None)
        path = None if name is None else self._file(name)
        if path is not None:
            name = self.add(path)
        picture = self._store.picture(name, refs)
        if picture is None and (spec.token is not None or spec.name != "instruct"):
            raise InputError(f"{spec.name} looks at a picture and there is none yet")
        return picture

    def _file(self, name: str) -> Path | None:
        """The file in the folder that a tool opens for `name`; any other name is the store's to judge."""
        wanted = str(name).strip()
        if self._folder is None or wanted in self._store.pictures:
            return None
        try:
            path = (self._folder / wanted).resolve()
            ours = path.is_relative_to(self._folder) and path.is_file()
        except (OSError, ValueError):  # no name that a file could have: too long, a NUL, a circle of links
            return None
        return path if ours else None

    def _count_known(self, reference: str) -> ToolAnswer:
        found = self._store.artifact(reference)
        if not isinstance(found, Boxes | Masks | Keypoints):
            raise InputError(f"{reference!r} has no items to count; give the id of boxes, masks or keypoints")
        text = f"{counted(found)} in {reference.strip()}"
        return ToolAnswer(text=text, turn=Turn(text=text, raw="", artifacts=(found,)), spent=self.meter.spent)


def _started(meters: Sequence[Meter], pixels: int) -> list[float]:
    """Book a call on every meter, or on none; gives the seconds that those with a limit leave it.

    Raises:
        BudgetError: it would go over one of the budgets.
    """
    limits: list[float] = []
    for number, meter in enumerate(meters):
        try:
            limit = meter.start(pixels)
        except BudgetError:
            for booked in meters[:number]:
                booked.give_back(pixels)
            raise
        limits += [] if limit is None else [limit]
    return limits


def checked(spec: ToolSpec, arguments: Mapping[str, Any]) -> Arguments:
    """The arguments of a tool, each of its type.

    Raises:
        InputError: one is missing, unknown or of another type; the message names it.
    """
    if not isinstance(arguments, Mapping):
        raise InputError(f"{spec.name}: arguments are given by their names, got {type(arguments).__name__}")
    try:
        return spec.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        raise InputError(f"{spec.name}: {wrong_arguments(error)}") from error


def wrong_arguments(error: ValidationError) -> str:
    """What is wrong with which argument, in one line."""
    parts = []
    for one in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in one["loc"]) or "arguments"
        given = "" if one["type"] == "missing" else f", got {one_line(ValueError(repr(one['input'])))[:80]}"
        parts.append(f"`{where}`: {one['msg']}{given}")
    return "; ".join(parts)


def _names(refs: Sequence[Artifact]) -> list[str]:
    """What the items of earlier results are called."""
    items = [one for one in refs if isinstance(one, Boxes | Masks | Keypoints)]
    names = list(dict.fromkeys(name for one in items for name in one.phrases))
    if not names:
        raise InputError("segment needs `phrases`, or `refs` with items in them")
    return names
