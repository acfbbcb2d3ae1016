"""Replies on their way, and the queue of those whose prompts the router has not read yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from superlink.router.encoded import EncodedRequest
from superlink.router.links import SuperLink
from superlink.router.prefixes import Prefix, PrefixStore
from superlink.router.requests import GenerateOptions, Reason
from superlink.router.tokens import RoutingToken
from superlink.router.writing import ReplyWriter


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One reply on its way."""

    number: int
    request: EncodedRequest
    writer: ReplyWriter
    length: int  # positions in the cache, those of the prompt from the start
    draws: list[float]  # one uniform number for every token; none when greedy
    prefix: Prefix | None = None  # where the prompt begins as an earlier row did
    sought: bool = False  # such an earlier row
    alone: bool = False  # its prompt is not read together with others
    ids: list[int] = field(default_factory=list)
    links: list[SuperLink] = field(default_factory=list)
    owed: RoutingToken | None = None  # written, but its link is not yet computed
    ending: Reason | None = None  # nothing more is written
    started: float = 0.0
    prefilled: float = 0.0

    @property
    def options(self) -> GenerateOptions:
        return self.request.options

    @property
    def known(self) -> int:
        """Positions of the prompt that need not be computed."""
        return 0 if self.prefix is None else self.prefix.length


class Waiting:
    """Rows that have not begun, first come first served."""

    def __init__(self, *, max_positions: int | None, prefixes: PrefixStore | None) -> None:
        """
        Args:
            max_positions: to compute in one pass; a longer prompt goes alone.
            prefixes: where the beginnings of prompts are looked up.
        """
        self._rows: deque[Row] = deque()
        self._max_positions = max_positions
        self._prefixes = prefixes

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: Sequence[Row]) -> None:
        self._rows.extend(rows)

    def put_back(self, rows: Sequence[Row]) -> None:
        """Rows that failed together go on first, one by one."""
        for row in rows:
            row.alone = True
        self._rows.extendleft(reversed(rows))

    def drop(self, numbers: Collection[int]) -> None:
        self._rows = deque(row for row in self._rows if row.number not in numbers)

    def take(self, room: int) -> list[Row]:
        """At most `room` rows whose prompts are read in one pass."""
        taken: list[Row] = []
        positions = 0
        while self._rows and len(taken) < room:
            row = self._rows[0]
            self._seek(row)
            positions += row.length - row.known
            full = self._max_positions is not None and positions > self._max_positions
            if taken and (full or row.alone or taken[0].alone):
                break
            taken.append(self._rows.popleft())
        return taken

    def _seek(self, row: Row) -> None:
        if self._prefixes is not None and row.request.content is not None and not row.sought:
            row.prefix = self._prefixes.find(row.request.content)
            row.sought = True
