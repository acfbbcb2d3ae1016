"""Numbers of an actor for Ray's metrics, which Prometheus reads from every node.

They carry the tag `worker`: the name of a decoder, or "router".
"""

from __future__ import annotations

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from superlink.decoders.contract import Failure, Outcome

_KEYS = ("worker",)
_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]
_SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


class ActorMetrics:
    """Of one actor; for the thread of its event loop."""

    def __init__(self, worker: str) -> None:
        self._done = Counter("superlink_done", "Calls or replies that ended.", _KEYS)
        self._failed = Counter("superlink_failed", "Calls that ended as a failure.", (*_KEYS, "kind"))
        self._waiting = Gauge("superlink_waiting", "Calls or replies that wait.", _KEYS)
        self._batch = Histogram("superlink_batch", "Calls of one forward pass.", _SIZES, _KEYS)
        self._seconds = Histogram("superlink_seconds", "A call or reply, waiting included.", _SECONDS, _KEYS)
        for metric in (self._done, self._failed, self._waiting, self._batch, self._seconds):
            metric.set_default_tags({"worker": worker})

    def done(self, seconds: float, *, count: int, waiting: int, batch: int = 0) -> None:
        """Pieces of work that came in together are finished."""
        self._done.inc(count)
        self._seconds.observe(seconds)
        self._waiting.set(waiting)
        if batch:
            self._batch.observe(batch)

    def failed(self, outcomes: Sequence[Outcome]) -> None:
        """Count what failed among them."""
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                self._failed.inc(1, {"kind": outcome.kind})
