"""Features of pictures that were just looked at, so that the next click on one costs no encoding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor, nn


class FeatureCache:
    """At most `limit` pictures; the one that was not asked for the longest goes first.

    Features are forgotten when a weight of `encoder` changes in any way.
    """

    def __init__(self, encoder: nn.Module, limit: int) -> None:
        self._encoder = encoder
        self._limit = limit
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._weights: tuple[Hashable, ...] = ()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, picture: str) -> Tensor | None:
        """Features under a content hash; None for "", which names no picture."""
        self._forget_if_changed()
        if picture not in self._kept:
            return None
        self._kept.move_to_end(picture)
        return self._kept[picture]

    def put(self, picture: str, features: Tensor) -> None:
        if not picture or not self._limit:
            return
        self._forget_if_changed()
        # clone(): a row of a batch keeps the features of the whole batch alive.
        self._kept[picture] = features.detach().clone()
        self._kept.move_to_end(picture)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def _forget_if_changed(self) -> None:
        # Every change in place counts up `_version`; a move to a device or type gives new memory.
        weights = tuple(
            (weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version)
            for weight in self._encoder.parameters()
        )
        if weights != self._weights:
            self._kept.clear()
            self._weights = weights
