"""Link groups: a routing token and the placeholder positions behind it.

Every decision is taken for each row and each token on its own. A group belongs to the routing
token that stands right before it, whatever the placeholder ids are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superlink.router.config import RouterConfig
from superlink.router.errors import LinkError
from superlink.router.tokens import RoutingToken


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkGroup:
    """Where one link of a row is read: hidden states `start` to `stop`, exclusive."""

    token: RoutingToken
    position: int  # of the routing token
    start: int
    stop: int

    @property
    def has_queries(self) -> bool:
        return self.start > self.position


def find_groups(ids: Sequence[int], config: RouterConfig) -> list[LinkGroup]:
    """The groups of one row without padding, in reading order.

    Raises:
        LinkError: a routing token has too few or too many placeholders, or a placeholder has no
            routing token.
    """
    placeholders = frozenset(config.token_ids.placeholders)
    groups = []
    index = 0
    while index < len(ids):
        token = config.routing_ids.get(ids[index])
        run = _run(ids, index + 1, placeholders) if token else _run(ids, index, placeholders)
        if token is None and run:
            raise LinkError(
                f"{run} link placeholders at position {index} follow no routing token; "
                f"write them right after the token that they belong to"
            )
        if token is not None:
            wanted = len(config.placeholders(token))
            if run != wanted:
                raise LinkError(
                    f"routing token {token.text!r} at position {index} needs {wanted} link placeholders, "
                    f"got {run}; was the row cut off or not expanded?"
                )
            start = index + 1 if wanted else index
            groups.append(LinkGroup(token=token, position=index, start=start, stop=index + 1 + wanted))
        index += 1 + run
    return groups


def expand(ids: Sequence[int], config: RouterConfig) -> list[int]:
    """`ids` of one row with the placeholders written after every routing token that lacks them.

    Raises:
        LinkError: a routing token has some placeholders, but not its number.
    """
    placeholders = frozenset(config.token_ids.placeholders)
    expanded: list[int] = []
    for index, token_id in enumerate(ids):
        expanded.append(token_id)
        token = config.routing_ids.get(token_id)
        if token is not None and not _run(ids, index + 1, placeholders):
            expanded.extend(config.placeholders(token))
    find_groups(expanded, config)
    return expanded


def collapse(ids: Sequence[int], config: RouterConfig) -> list[int]:
    """`ids` of one row without placeholders: what was really written."""
    placeholders = frozenset(config.token_ids.placeholders)
    return [token_id for token_id in ids if token_id not in placeholders]


def _run(ids: Sequence[int], start: int, allowed: frozenset[int]) -> int:
    """How many ids from `start` on are allowed ones."""
    stop = start
    while stop < len(ids) and ids[stop] in allowed:
        stop += 1
    return stop - start
