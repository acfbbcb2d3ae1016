"""One reply being written: ids in, readable text out, as soon as it is certain.

Bytes that do not yet make a character, and text that may become a stop string, are held back.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection

from superlink.router.phrases import ReplyReader
from superlink.router.tokenizer import RouterTokenizer


class ReplyWriter:
    """Text of one reply, id by id."""

    def __init__(
        self,
        tokenizer: RouterTokenizer,
        routing_texts: Collection[str],
        *,
        stop: tuple[str, ...] = (),
        expression: str = "",
    ) -> None:
        """
        Args:
            stop: plain strings that end the reply before them, or special tokens that end it
                after them. A plain stop string never spans a special token.
            expression: what the user asked for, for routing tokens without words of their own.
        """
        self._names = tokenizer.special_texts
        self._bytes = tokenizer.token_bytes
        self._routing_texts = routing_texts
        self._reader = ReplyReader(expression=expression)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop_tokens = frozenset(text for text in stop if text in tokenizer.special_ids)
        self._stop_strings = tuple(text for text in stop if text and text not in self._stop_tokens)
        self._held = ""  # may become a stop string
        self._raw: list[str] = []
        self._text: list[str] = []
        self.stopped = False
        self.phrase = ""  # of the last routing token

    @property
    def raw(self) -> str:
        return "".join(self._raw)

    @property
    def text(self) -> str:
        return "".join(self._text)

    def add(self, index: int) -> str:
        """Take the next id; return the text that people can read now, often none."""
        name = self._names.get(index)
        if name is None:
            return self._write(self._decoder.decode(self._bytes[index]))
        delta = self.flush()
        self._raw.append(name)
        if name in self._routing_texts:
            self.phrase = self._reader.route(name)
        else:
            self._reader.mark(name)
        self.stopped = name in self._stop_tokens
        return delta

    def flush(self) -> str:
        """Give up everything held back: a special token or the end came."""
        held, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return "" if self.stopped else self._emit(held)

    def _write(self, text: str) -> str:
        if not self._stop_strings:
            return self._emit(text)
        self._held += text
        cuts = [cut for stop in self._stop_strings if (cut := self._held.find(stop)) >= 0]
        if cuts:
            self.stopped = True
            sure, self._held = self._held[: min(cuts)], ""
        else:
            keep = max(_overlap(self._held, stop) for stop in self._stop_strings)
            sure, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return self._emit(sure)

    def _emit(self, text: str) -> str:
        if not text:
            return ""
        self._raw.append(text)
        delta = self._reader.words(text)
        if delta:
            self._text.append(delta)
        return delta


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((length for length in range(most, 0, -1) if stop.startswith(text[-length:])), 0)
