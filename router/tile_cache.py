"""Tiles of pictures that were asked about lately: every round of a session encodes its pictures again.

Cutting a photo of 12 megapixels takes five times as long as recognising it by its content.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np
from torch import Tensor

from superlink.router.config import RouterConfig
from superlink.router.messages import ImageArray
from superlink.router.vision import tiles_of

TILE_BYTES = 64 * 2**20


class TileCache:
    """At most `limit` bytes of tiles; what was not asked for the longest goes first. Threads may share it."""

    def __init__(self, config: RouterConfig, *, limit: int = TILE_BYTES) -> None:
        self._config = config
        self._limit = limit
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def tiles_of(self, image: ImageArray) -> Tensor:
        """(n, 3, S, S), as `vision.tiles_of` gives them; not to be changed.

        Raises:
            InputError: not an (H, W, 3) uint8 picture.
        """
        digest = hashlib.sha256(repr((image.shape, image.dtype)).encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        tiles = tiles_of(image, self._config)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = tiles
                self._nbytes += tiles.nbytes
            while self._nbytes > self._limit:
                self._nbytes -= self._kept.popitem(last=False)[1].nbytes
        return tiles
