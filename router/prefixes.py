"""Prompts that begin as an earlier row did: what the language model made of that part is kept.

A later round of a session repeats the picture and all rounds before it. Keys and values depend on
nothing but the positions up to their own, so they are found by content: by ids, and at visual
tokens and regions by what stands behind them. Only what is equal is reused, however a
conversation came to be.

Axes: T positions of one row, P tiles, R regions.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from superlink.router.batch import RouterBatch
from superlink.router.cache import RowStates
from superlink.router.config import RouterConfig

PREFIX_BYTES = 512 * 2**20
LEAST = 4  # positions: every conversation begins with the same few, which is not worth a copy

Content = NDArray[np.int64]  # (T, 3): an id, and 16 bytes of hash where an id does not say all


def content_of(row: RouterBatch, config: RouterConfig) -> Content:
    """What stands at every position of one row without padding.

    A visual token is known by its tile (which of the tile's tokens it is follows from those before
    it), a region by its mask and the tile that it lies on.
    """
    (ids,) = row.input_ids.cpu().numpy()
    content = np.zeros((len(ids), 3), np.int64)
    content[:, 0] = ids
    tiles = [_hash(tile) for tile in row.tiles] if row.tiles is not None else []
    if not tiles:
        return content
    (counts,), (images,) = row.tile_counts, row.region_images or ((),)
    hashes = np.repeat(np.stack(tiles), config.tokens_per_tile, axis=0)
    content[ids == config.token_ids.image_patch, 1:] = hashes
    masks = [] if row.regions is None else list(row.regions)
    regions = [
        _hash(mask, tiles[sum(counts[: image + 1]) - 1]) for mask, image in zip(masks, images, strict=True)
    ]
    if regions:
        content[ids == config.token_ids.region, 1:] = np.stack(regions)
    return content


def extended(content: Content, written: Sequence[int], config: RouterConfig, length: int) -> Content:
    """(length, 3) content of a row after ids were written behind it, link queries included."""
    routes = config.routing_ids
    ids = list(content[:, 0])
    for index in written:
        ids.append(index)
        if index in routes:
            ids += config.placeholders(routes[index])
    longer = np.zeros((length, 3), np.int64)
    longer[:, 0] = ids[:length]
    longer[: len(content)] = content
    return longer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """The beginning of a row that need not be computed again."""

    states: RowStates  # of at least `length` positions
    length: int


class PrefixStore:
    """Keys and values of rows that ended; what was not needed for the longest goes first.

    They are forgotten when a weight of `router` changes in any way. Not for several threads at once.
    """

    def __init__(self, router: nn.Module, config: RouterConfig, *, limit: int = PREFIX_BYTES) -> None:
        """
        Args:
            limit: most bytes of keys and values; 0 keeps nothing.
        """
        self._parameters = tuple(router.parameters())
        self._config = config
        self._limit = limit
        self._rows: OrderedDict[int, tuple[Content, RowStates]] = OrderedDict()  # oldest use first
        self._next = 0
        self._weights: tuple[Hashable, ...] = ()
        self.nbytes = 0
        self.hits = 0  # rows of which a beginning was found
        self.positions = 0  # of those beginnings together

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, content: Content) -> Prefix | None:
        """The longest known beginning of a row; its last position is always left to be computed."""
        self._forget_if_changed()
        best, most = -1, 0
        for key, (kept, _) in self._rows.items():
            if (common := _common(kept, content)) > most:
                best, most = key, common
        length = self._cut(content, min(most, len(content) - 1))
        if length < LEAST:
            return None
        self._rows.move_to_end(best)
        self.hits += 1
        self.positions += length
        return Prefix(states=self._rows[best][1], length=length)

    def keep(self, content: Content, states: RowStates) -> None:
        """Take a row of `len(content)` positions; rows that it continues are let go."""
        self._forget_if_changed()
        if len(content) < LEAST or states.nbytes > self._limit:
            return
        for key, (kept, _) in list(self._rows.items()):
            common = _common(kept, content)
            if common == len(content):  # nothing new
                self._rows.move_to_end(key)
                return
            if common == len(kept):
                self._drop(key)
        self._rows[self._next] = (content, states)
        self._next += 1
        self.nbytes += states.nbytes
        while self.nbytes > self._limit:
            self._drop(next(iter(self._rows)))

    def _cut(self, content: Content, length: int) -> int:
        """The largest cut up to `length` that goes through no tile and no link group."""
        ids = content[:, 0]
        placeholders = self._config.token_ids.placeholders
        while 0 < length < len(ids) and ids[length] in placeholders:
            length -= 1
        visual = (ids[:length] == self._config.token_ids.image_patch) & content[:length, 1:].any(axis=1)
        return length - int(visual.sum()) % self._config.tokens_per_tile

    def _drop(self, key: int) -> None:
        _, states = self._rows.pop(key)
        self.nbytes -= states.nbytes

    def _forget_if_changed(self) -> None:
        # Every change in place counts up `_version`; a move to a device or type gives new memory.
        weights = tuple(
            (weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version)
            for weight in self._parameters
        )
        if weights != self._weights:
            self._rows.clear()
            self.nbytes = 0
            self._weights = weights


def _hash(tensor: Tensor, *more: NDArray[np.int64]) -> NDArray[np.int64]:
    """(2,) a hash of the values of a tensor, and of other hashes."""
    data: NDArray[Any] = tensor.detach().contiguous().cpu().numpy()
    digest = hashlib.sha256(data.data)  # which processors have instructions for: a third of blake2b's time
    for one in more:
        digest.update(one.tobytes())
    return np.frombuffer(digest.digest()[:16], np.int64)


def _common(kept: Content, content: Content) -> int:
    """How many positions two rows have in common at their beginning."""
    most = min(len(kept), len(content))
    differs = (kept[:most] != content[:most]).any(axis=1)
    return int(differs.argmax()) if differs.any() else most
